"""The last line of the terminal: how a progress bar and the output of commands share it. Decisions only.

The bar is drawn without a newline. Whatever else goes to the terminal first wipes it, in the same write, so neither
tears the other; the next frame draws it again below.
"""

WIPE = b"\r\x1b[2K"  # to the first column, and erase the line (ECMA-48)


class Curtain:
    """What is on the last line of the terminal."""

    def __init__(self) -> None:
        self._bar_shown = False
        self._mid_line = False

    def pass_through(self, data: bytes) -> bytes:
        """The bytes to write so that `data` appears and the bar does not mix with it."""
        shown, self._bar_shown = self._bar_shown, False
        self._mid_line = not data.endswith(b"\n")
        return WIPE + data if shown else data

    def draw(self, frame: bytes) -> bytes:
        """The bytes to write so that a frame is the last line; an empty frame takes the bar away."""
        if not frame and not self._bar_shown:
            return b""
        wipe = WIPE if self._bar_shown else b"\n" * self._mid_line
        self._bar_shown, self._mid_line = bool(frame), False
        return wipe + frame
