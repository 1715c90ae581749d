"""Pseudo-terminals, for programs that need a terminal (pty(7))."""

import fcntl
import os
import struct
import termios
from typing import NamedTuple

from aiocmdpool.commands import validate

_LFLAG, _CC = 3, 6  # indexes into the result of termios.tcgetattr
_LARGEST = 65535


class WindowSize(NamedTuple):
    """The size of a terminal's window, in characters."""

    rows: int = 24
    columns: int = 80


def open_terminal(size: WindowSize) -> tuple[int, int]:
    """Return a new terminal with a window of `size`: our end, and the program's.

    Raises:
        ConfigError: No window can have that size.
        OSError: The system has no more terminals.
    """
    check_size(size)
    ours, theirs = os.openpty()
    resize(ours, size)
    return ours, theirs


def check_size(size: WindowSize) -> None:
    """Raise `ConfigError` unless `size` is a possible size of a window.

    Raises:
        ConfigError: No window can have that size.
    """
    for name, value in zip(WindowSize._fields, size, strict=True):
        validate.whole_number(0, _LARGEST)(name, value)


def resize(fd: int, size: WindowSize) -> None:
    """Set the size of a terminal's window; the programs in it get SIGWINCH (ioctl_tty(2), TIOCSWINSZ)."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


def end_of_input(fd: int) -> bytes:
    """Return the EOF character of a terminal, which ends the input of a program that reads lines; empty in raw mode."""
    attributes = termios.tcgetattr(fd)
    if not attributes[_LFLAG] & termios.ICANON:
        return b""
    character: bytes = attributes[_CC][termios.VEOF]
    return character
