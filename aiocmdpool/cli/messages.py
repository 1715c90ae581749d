"""Words for people on standard error: one line each, and nothing in them that a terminal would obey."""

import os
import sys


def message(text: str) -> bytes:
    """A line of ours."""
    return encoded(f"aiocmdpool: {one_line(text)}\n")


def one_line(text: str) -> str:
    """The text with its control characters spelled out. Bytes that are no text stay as they are."""
    return text if text.isprintable() else "".join(map(_spelled, text))


def encoded(text: str) -> bytes:
    """The text as bytes for the terminal; file names come out as they came in."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # a locale that lacks our own characters
        return text.encode(sys.getfilesystemencoding(), "backslashreplace")


def size_text(size: int) -> str:
    """Bytes for people, in the words that options take: `64K`, `10M`, `1234`."""
    for unit, name in ((1024**3, "G"), (1024**2, "M"), (1024, "K")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size} bytes"


def _spelled(character: str) -> str:
    if character.isprintable() or "\udc80" <= character <= "\udcff":  # the latter: os.fsdecode of a stray byte
        return character
    return character.encode("unicode_escape").decode()
