"""Pseudo-terminals, for programs that only talk to a terminal (pty(7))."""

import fcntl
import os
import struct
import termios
from typing import NamedTuple

from aiocmdpool.commands import validate

_LFLAG, _CC = 3, 6  # places in what termios.tcgetattr gives
_LARGEST = 65535


class WindowSize(NamedTuple):
    """How large the window of a terminal is, in characters."""

    rows: int = 24
    columns: int = 80


def open_terminal(size: WindowSize) -> tuple[int, int]:
    """A new terminal: our end, and the program's.

    Raises:
        ConfigError: No window is of that size.
        OSError: There is none left.
    """
    check_size(size)
    ours, theirs = os.openpty()
    resize(ours, size)
    return ours, theirs


def check_size(size: WindowSize) -> None:
    """See that a size can be one.

    Raises:
        ConfigError: It cannot.
    """
    for name, value in zip(WindowSize._fields, size, strict=True):
        validate.whole_number(0, _LARGEST)(name, value)


def resize(fd: int, size: WindowSize) -> None:
    """Set the size of a window; the kernel tells the programs in it, by SIGWINCH (ioctl_tty(2), TIOCSWINSZ)."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


def end_of_input(fd: int) -> bytes:
    """What ends the input of a program that reads lines: the terminal's EOF character. Nothing in raw mode."""
    attributes = termios.tcgetattr(fd)
    if not attributes[_LFLAG] & termios.ICANON:
        return b""
    character: bytes = attributes[_CC][termios.VEOF]
    return character
