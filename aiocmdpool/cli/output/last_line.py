"""The last line of the terminal: how a progress bar and the output of commands share it. Decisions only.

The bar is drawn without a newline. Whatever else goes to the terminal wipes it first and draws it again below, so
neither tears the other and nothing flickers.
"""

WIPE = b"\r\x1b[2K"  # to the first column, and erase the line (ECMA-48)


class LastLine:
    """What is on the last line of the terminal."""

    def __init__(self) -> None:
        self._frame = b""
        self._mid_line = False

    def before(self) -> bytes:
        """Return the bytes to write before other output."""
        return WIPE if self._frame else b""

    def after(self, *, ends_line: bool) -> bytes:
        """Return the bytes to write behind it.

        Args:
            ends_line: Whether its last byte is a newline. If not, the line may go on, so the next frame is awaited.
        """
        self._mid_line = not ends_line
        if self._mid_line:
            self._frame = b""
        return self._frame

    def pass_through(self, data: bytes) -> bytes:
        """Return the bytes to write so that `data` appears and the bar does not mix with it."""
        return self.before() + data + self.after(ends_line=data.endswith(b"\n"))

    def draw(self, frame: bytes) -> bytes:
        """Return the bytes to write so that a frame is the last line; an empty frame takes the bar away."""
        if frame == self._frame:
            return b""
        wipe = WIPE if self._frame else b"\n" * self._mid_line
        self._frame, self._mid_line = frame, False
        return wipe + frame
