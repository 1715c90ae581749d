"""The pipes of a live process: the program's ends, as options of its command, and ours."""

import os
from collections.abc import Collection
from typing import Any

from aiocmdpool.command import CommandConfig, Stdio
from aiocmdpool.live.owned_run import close_all
from aiocmdpool.system.start_failure import stream_failure

ALL = ("stdin", "stdout", "stderr")


class Wiring:
    """Pipes for those streams of a command that lead nowhere else.

    Args:
        command: Its `Stdio.NULL` for stdin, and `Stdio.CAPTURE` for the others, become pipes.
        streams: The names of those that may.

    Attributes:
        changes: The options of the command that put its program on these pipes.
        theirs: The program's ends.
        ours: By name; whoever makes it owns them.

    Raises:
        IoError: There are no descriptors left. Nothing stays open then.
    """

    def __init__(self, command: CommandConfig, streams: Collection[str] = ALL) -> None:
        self.changes: dict[str, Any] = {}
        self.theirs: list[int] = []
        self.ours: dict[str, int] = {}
        try:
            for name in streams:
                if getattr(command, name) is (Stdio.NULL if name == "stdin" else Stdio.CAPTURE):
                    read_end, write_end = os.pipe()
                    mine, theirs = (write_end, read_end) if name == "stdin" else (read_end, write_end)
                    self.ours[name] = mine
                    self.theirs.append(theirs)
                    self.changes[name] = theirs
        except OSError as error:
            close_all([*self.theirs, *self.ours.values()])
            raise stream_failure(command, error) from None
