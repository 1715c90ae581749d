"""Shapes output of a command: whole, or line by line (`--line-buffer`), with or without tags (`--tag`).

No byte is added or lost, however long a line is and whether or not the last one has a newline; only `--tag` adds one at
the end, or the next tag would be inside of that line.
"""

from typing import Protocol

from aiocmdpool.cli.output.spool import Spool


class Tagger:
    """Puts a tag before each line, piece by piece.

    Args:
        tag: The prefix of each line; empty for no change.
    """

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._begins_line = True

    def feed(self, data: bytes) -> bytes:
        """Return the next piece with its tags."""
        if not self._tag or not data:
            return data
        body = data.removesuffix(b"\n")
        tagged = self._tag * self._begins_line + body.replace(b"\n", b"\n" + self._tag)
        self._begins_line = data.endswith(b"\n")
        return tagged + b"\n" * self._begins_line

    def finish(self) -> bytes:
        """Return the newline that the last line lacks; empty if it has one."""
        return b"" if self._begins_line or not self._tag else b"\n"


class Shape(Protocol):
    """The interface of what cuts output into the pieces that are written."""

    def feed(self, data: bytes) -> list[Spool]:
        """Take a piece of output; return the output that may be written now.

        Raises:
            OSError: The output cannot be kept.
        """
        ...

    def finish(self) -> list[Spool]:
        """Return the rest of the output, at the end of the stream."""
        ...


class Lines:
    """Shape of whole lines, as soon as they are complete. A long one waits in a file, so it takes no memory."""

    def __init__(self, tag: bytes = b"") -> None:
        self._tagger = Tagger(tag)
        self._rest = Spool()

    def feed(self, data: bytes) -> list[Spool]:
        """Return the lines that a piece completes, as one spool."""
        data = self._tagger.feed(data)
        end = data.rfind(b"\n") + 1
        self._rest.append(data[:end] if end else data)
        if not end:
            return []
        lines, self._rest = self._rest, Spool(data[end:])
        return [lines]

    def finish(self) -> list[Spool]:
        """Return the last line if it has no newline."""
        self._rest.append(self._tagger.finish())
        rest, self._rest = self._rest, Spool()
        return [rest] if rest.size else []


class Whole:
    """Shape that keeps all output in one piece, to be written later.

    Attributes:
        spool: The output so far.
    """

    def __init__(self, tag: bytes = b"") -> None:
        self._tagger = Tagger(tag)
        self.spool = Spool()

    def feed(self, data: bytes) -> list[Spool]:
        """Keep a piece of output; return nothing to write."""
        self.spool.append(self._tagger.feed(data))
        return []

    def finish(self) -> list[Spool]:
        """Keep the missing last newline, if any; return nothing to write."""
        self.spool.append(self._tagger.finish())
        return []
