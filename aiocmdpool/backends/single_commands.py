"""`SingleCommands`: runs the commands of `run`, `execute`, `stream` and the like, without a pool of the user's."""

import time

from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.backends.config import ExecutionMode
from aiocmdpool.backends.workers import lending
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import PoolClosed, WorkerLost
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import ControlledExecutor
from aiocmdpool.system.safe_log import SafeLog, safe_warn

TRY_AGAIN_AFTER = 60.0  # seconds to do without workers after none could be started

_log = SafeLog("aiocmdpool.single_commands")


class _Workers:
    """State of the process: whether workers can be started, and whether a failure has been reported."""

    missing_until = 0.0
    was_told = False


class SingleCommands:
    """Runs commands in a worker that this process keeps for them; as children if no worker can be started.

    Nothing has to be closed; `aclose` ends the commands that this object runs, and the worker of this loop.

    Concurrency: belongs to one loop.
    """

    def __init__(self) -> None:
        self._children: ProcessBackend | None = None
        self._threads: ThreadBackend | None = None
        self._closed = False

    def in_mode(self, mode: ExecutionMode) -> ControlledExecutor:
        """Return an executor for `mode`; any but `PROCESS_POOL` starts and uses nothing resident.

        Raises:
            ConfigError: `mode` is no `ExecutionMode`.
        """
        if mode is ExecutionMode.PROCESS_POOL:
            return self
        validate.instance_of(ExecutionMode)("mode", mode)
        if mode is ExecutionMode.PROCESS:
            self._children = self._children or ProcessBackend()
            return self._children
        self._threads = self._threads or ThreadBackend()
        return self._threads

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` to its end and return its result; the contract is that of `CommandExecutor.execute`."""
        if self._closed:
            raise PoolClosed("this backend is closed; make a new one", command=command)
        if time.monotonic() >= _Workers.missing_until:
            try:
                return await lending.borrow().execute(command, control=control)
            except WorkerLost as error:
                if error.may_have_run:
                    raise
                _note_missing(error)
        return await self.in_mode(ExecutionMode.PROCESS).execute(command, control=control)

    async def aclose(self) -> None:
        """End all running commands, and the worker of this loop. Harmless when repeated."""
        self._closed = True
        for backend in (self._children, self._threads):
            if backend is not None:
                await backend.aclose()
        await lending.give_up()


def _note_missing(error: WorkerLost) -> None:
    """Start no workers for `TRY_AGAIN_AFTER` seconds, and warn about it the first time."""
    _Workers.missing_until = time.monotonic() + TRY_AGAIN_AFTER
    if not _Workers.was_told:
        _Workers.was_told = True
        message = f"single commands are children of this process from here on, and would outlive it if killed: {error}"
        _log.warning("%s", message)
        safe_warn(message, RuntimeWarning)  # where warnings are errors, the command still runs
