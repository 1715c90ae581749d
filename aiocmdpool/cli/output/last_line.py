"""The last line of the terminal: how a progress bar and the output of commands share it. Decisions only.

The bar is drawn without a newline. Whatever else goes to the terminal wipes it first and draws it again below, all in
one write, so neither tears the other and nothing flickers.
"""

WIPE = b"\r\x1b[2K"  # to the first column, and erase the line (ECMA-48)


class Curtain:
    """What is on the last line of the terminal."""

    def __init__(self) -> None:
        self._frame = b""
        self._mid_line = False

    def pass_through(self, data: bytes) -> bytes:
        """The bytes to write so that `data` appears and the bar does not mix with it."""
        wipe = WIPE if self._frame else b""
        self._mid_line = not data.endswith(b"\n")
        if self._mid_line:
            self._frame = b""  # until the next frame; the line may go on
        return wipe + data + self._frame

    def draw(self, frame: bytes) -> bytes:
        """The bytes to write so that a frame is the last line; an empty frame takes the bar away."""
        if frame == self._frame:
            return b""
        wipe = WIPE if self._frame else b"\n" * self._mid_line
        self._frame, self._mid_line = frame, False
        return wipe + frame
