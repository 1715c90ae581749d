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


def _spelled(character: str) -> str:
    if character.isprintable() or "\udc80" <= character <= "\udcff":  # the latter: os.fsdecode of a stray byte
        return character
    return character.encode("unicode_escape").decode()
