"""Messages for people on standard error: one line each, without terminal control sequences."""

import os
import sys


def message(text: str) -> bytes:
    """Return a message of this program as a line for the terminal."""
    return encoded(f"aiocmdpool: {one_line(text)}\n")


def one_line(text: str) -> str:
    """Return `text` with control characters spelled out. Bytes that are no valid text stay as they are."""
    return text if text.isprintable() else "".join(map(_spelled, text))


def encoded(text: str) -> bytes:
    """Return `text` as bytes for the terminal; file names come out as they came in."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # the locale lacks characters of our own messages
        return text.encode(sys.getfilesystemencoding(), "backslashreplace")


def size_text(size: int) -> str:
    """Return a number of bytes for people, in the form that options take: `64K`, `10M`, `1234 bytes`."""
    for unit, name in ((1024**3, "G"), (1024**2, "M"), (1024, "K")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size} bytes"


def _spelled(character: str) -> str:
    if character.isprintable() or "\udc80" <= character <= "\udcff":  # os.fsdecode could not decode this byte
        return character
    return character.encode("unicode_escape").decode()
