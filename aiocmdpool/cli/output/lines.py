"""Output on its way from a command's pipe: whole, or line by line (`--line-buffer`), with or without tags (`--tag`).

Not a byte is added or lost on the way, however long a line is and whether or not the last one ends; only `--tag`
gives each last line an end, or the next tag would stand in its middle.
"""

from typing import Protocol

from aiocmdpool.cli.output.spool import Spool


class Tagger:
    """Puts a tag before each line, as the pieces come.

    Args:
        tag: Empty for none: then nothing is changed.
    """

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._begins_line = True

    def feed(self, data: bytes) -> bytes:
        """Return the piece with its tags."""
        if not self._tag or not data:
            return data
        body = data.removesuffix(b"\n")
        tagged = self._tag * self._begins_line + body.replace(b"\n", b"\n" + self._tag)
        self._begins_line = data.endswith(b"\n")
        return tagged + b"\n" * self._begins_line

    def finish(self) -> bytes:
        """Return the newline that the last line lacks."""
        return b"" if self._begins_line or not self._tag else b"\n"


class Shape(Protocol):
    """What becomes of the bytes of a stream."""

    def feed(self, data: bytes) -> list[Spool]:
        """Take a piece; return what may be written now.

        Raises:
            OSError: It cannot be kept.
        """
        ...

    def finish(self) -> list[Spool]:
        """Return what is left, at the end of the stream."""
        ...


class Lines:
    """Whole lines, as soon as they are complete. A long one waits in a file, so it takes no memory."""

    def __init__(self, tag: bytes = b"") -> None:
        self._tagger = Tagger(tag)
        self._rest = Spool()

    def feed(self, data: bytes) -> list[Spool]:
        """Return the lines that a piece completes, together."""
        data = self._tagger.feed(data)
        end = data.rfind(b"\n") + 1
        self._rest.append(data[:end] if end else data)
        if not end:
            return []
        lines, self._rest = self._rest, Spool(data[end:])
        return [lines]

    def finish(self) -> list[Spool]:
        """Return the line that has no end."""
        self._rest.append(self._tagger.finish())
        rest, self._rest = self._rest, Spool()
        return [rest] if rest.size else []


class Whole:
    """Everything in one piece, for who asks for it.

    Attributes:
        spool: What has come.
    """

    def __init__(self, tag: bytes = b"") -> None:
        self._tagger = Tagger(tag)
        self.spool = Spool()

    def feed(self, data: bytes) -> list[Spool]:
        """Keep a piece."""
        self.spool.append(self._tagger.feed(data))
        return []

    def finish(self) -> list[Spool]:
        """Keep what is left."""
        self.spool.append(self._tagger.finish())
        return []
