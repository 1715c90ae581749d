"""`LastLine`: lets a progress bar and the output of commands share the last line of the terminal. Decisions only.

The bar is drawn without a newline. Other output first wipes it and then draws it again below, so neither tears the
other and nothing flickers.
"""

WIPE = b"\r\x1b[2K"  # move to the first column, and erase the line (ECMA-48)


class LastLine:
    """The content of the last line of the terminal."""

    def __init__(self) -> None:
        self._frame = b""
        self._mid_line = False

    def before(self) -> bytes:
        """Return the bytes to write before other output."""
        return WIPE if self._frame else b""

    def after(self, *, ends_line: bool) -> bytes:
        """Return the bytes to write after other output.

        Args:
            ends_line: Whether the output ended with a newline. If not, its line may go on, so the bar waits for the
                next frame.
        """
        self._mid_line = not ends_line
        if self._mid_line:
            self._frame = b""
        return self._frame

    def pass_through(self, data: bytes) -> bytes:
        """Return the bytes to write so that `data` appears and the bar does not mix with it."""
        return self.before() + data + self.after(ends_line=data.endswith(b"\n"))

    def draw(self, frame: bytes) -> bytes:
        """Return the bytes that make `frame` the last line; an empty frame removes the bar."""
        if frame == self._frame:
            return b""
        wipe = WIPE if self._frame else b"\n" * self._mid_line
        self._frame, self._mid_line = frame, False
        return wipe + frame
