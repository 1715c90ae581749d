"""`Wiring`: the pipes, or the terminal, of a live process: our ends, and the program's as options of its command."""

import os
from collections.abc import Collection, Iterable
from typing import Any

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.run_control import ChildSetup
from aiocmdpool.live.owned_run import close_all
from aiocmdpool.live.terminal import WindowSize, open_terminal
from aiocmdpool.system.start_failure import stream_failure

ALL = ("stdin", "stdout", "stderr")


def open_pipes(names: Iterable[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return a pipe for each named stream: our ends and the program's, by name.

    Raises:
        OSError: There are no free descriptors. Nothing stays open then.
    """
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    try:
        for name in names:
            read_end, write_end = os.pipe()
            ours[name], theirs[name] = (write_end, read_end) if name == "stdin" else (read_end, write_end)
    except OSError:
        close_all([*ours.values(), *theirs.values()])
        raise
    return ours, theirs


class Wiring:
    """Pipes, or one terminal, for the streams that a command does not redirect.

    Args:
        command: The command; `Stdio.NULL` for stdin, and `Stdio.CAPTURE` for the others, become pipes.
        streams: Names of the streams that may become pipes.
        window: The size of the terminal's window; `None`: pipes.

    Attributes:
        changes: Options of the command that connect its program to these pipes.
        theirs: The program's ends.
        ours: Our ends by name, owned by the caller. A terminal's output is its stdout, unless that leads elsewhere.
        setup: Settings of the program's process.

    Raises:
        ConfigError: The window cannot be of that size, no stream is left for the terminal, or there is no such stream.
        IoError: There are no free descriptors. Nothing stays open then.
    """

    def __init__(
        self, command: CommandConfig, streams: Collection[str] = ALL, window: WindowSize | None = None
    ) -> None:
        self.changes: dict[str, Any] = {}
        self.theirs: list[int] = []
        self.ours: dict[str, int] = {}
        self.setup: ChildSetup | None = None
        streams = streams if isinstance(streams, str) else tuple(streams)
        if isinstance(streams, str) or not set(streams) <= set(ALL):
            message = (
                f"streams: {validate.shown(streams)} is not a list of names of streams; there are: {', '.join(ALL)}"
            )
            raise ConfigError(message, field="streams", command=command)
        names = [
            name for name in streams if getattr(command, name) is (Stdio.NULL if name == "stdin" else Stdio.CAPTURE)
        ]
        try:
            if window is None:
                self.ours, self.changes = open_pipes(names)
                self.theirs = list(self.changes.values())
            else:
                self._open_terminal(command, names, window)
        except OSError as error:
            close_all([*self.theirs, *self.ours.values()])
            raise stream_failure(command, error) from None

    def _open_terminal(self, command: CommandConfig, names: list[str], window: WindowSize) -> None:
        if command.stderr is Stdio.MERGED and "stdout" in names:
            names = [*names, "stderr"]
        outputs = [name for name in names if name != "stdin"]
        if not outputs:
            raise ConfigError(f"pty: {command.display()} writes nothing to it: {command!r}", field="pty")
        ours, theirs = open_terminal(window)
        self.theirs.append(theirs)
        self.ours[outputs[0]] = ours
        self.changes = dict.fromkeys(names, theirs)
        self.setup = ChildSetup(new_session=True, terminal=ALL.index(names[0]))
        if "stdin" in names:
            self.ours["stdin"] = os.dup(ours)
