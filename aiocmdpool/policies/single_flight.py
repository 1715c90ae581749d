"""`SingleFlight`: equal commands that are in flight at the same time share one run.

Libraries for this await the shared call in the first caller, so that its cancellation ends the run for the others, or
they shield it, so that no cancellation ever ends it: a command would then run on for nobody.
"""

import asyncio
import copy
import dataclasses
import functools
from collections.abc import Hashable

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled
from aiocmdpool.commands.executor import CommandExecutor, checked_executor, checked_result
from aiocmdpool.commands.result import CommandResult, EndReason
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.policies.keys import Key, key_of
from aiocmdpool.policies.wrapper import Wrapper


def same_command(command: CommandConfig) -> CommandConfig | None:
    """Return the command without its label as its key; equal commands differ in label and metadata at most.

    `None`, for no sharing, if streams are descriptors or inherited: input and output of one run would be missing for
    the other. And for commands with `detach`, whose purpose is to leave processes running.
    """
    streams = (command.stdin, command.stdout, command.stderr)
    if command.detach or any(isinstance(stream, int) or stream is Stdio.INHERIT for stream in streams):
        return None
    return command if command.label is None else command.with_options(label=None)


@dataclasses.dataclass(slots=True)
class _Flight:
    run: "asyncio.Task[CommandResult]"
    command: CommandConfig
    waiters: int = 0


class SingleFlight(Wrapper):
    """An executor in which a command that equals one in flight waits for its outcome instead of running, too.

    No outcome is kept: a command that comes after the end of the run is run. The policy assumes that fewer runs do no
    harm; let `key` return `None` for commands of which that is not true. Each caller gets the outcome with its own
    command (and so its own label and metadata) in it.

    Concurrency: belongs to one loop.

    Cancellation: the caller leaves the run, at once if others wait for it. The last one ends the run, and
        `CancelledError` is raised when the command is dead; an equal command that comes meanwhile gets a new run.

    Ownership: does not close the executor. When that is closed, all who share a run get its `TaskCancelled`.

    Args:
        executor: The executor that runs the commands.
        key: Function that returns the key of a command; equal keys share a run. `None` for a run of its own.

    Example:
        >>> executor = SingleFlight(backend)
        >>> await asyncio.gather(*[executor.execute(CommandConfig("git", ["fetch"], cwd=repo))] * 10)  # one fetch
    """

    def __init__(self, executor: CommandExecutor, *, key: Key = same_command) -> None:
        self._executor = checked_executor(executor)
        self._key: Key = validate.function("key", key)
        self._flights: dict[Hashable, _Flight] = {}

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Join the run of an equal command, or run `command`, and return the result; see `CommandExecutor.execute`.

        Raises:
            ConfigError: `key` returned a key that is not hashable.
        """
        key = key_of(self._key, command)
        if key is None or control is not None:  # a controlled program is not shared
            return await execute_on(self._executor, command, control)
        flight = self._flights.get(key)
        if flight is None or flight.run.done():  # it is over, but its callback has not been called yet
            flight = self._take_off(key, command)
        flight.waiters += 1
        try:
            try:
                await asyncio.wait((flight.run,))
            except asyncio.CancelledError as cancellation:
                if flight.waiters == 1:
                    raise await self._abort(key, flight, cancellation) from _cause(flight.run)
                raise
            return _landed(flight, command)
        finally:
            flight.waiters -= 1
            del flight  # break the cycle of the run, its error and the traceback

    def _take_off(self, key: Hashable, command: CommandConfig) -> _Flight:
        run = asyncio.ensure_future(self._executor.execute(command))
        flight = self._flights[key] = _Flight(run, command)
        run.add_done_callback(functools.partial(self._over, key, flight))
        return flight

    def _over(self, key: Hashable, flight: _Flight, run: "asyncio.Task[CommandResult]") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _abort(
        self, key: Hashable, flight: _Flight, cancellation: asyncio.CancelledError
    ) -> asyncio.CancelledError:
        """End the run that nobody waits for any more; return the cancellation to raise when it is dead."""
        if self._flights.get(key) is flight:
            del self._flights[key]  # nobody may join a run that is being ended
        flight.run.cancel()
        return await wait_through(flight.run) or cancellation

    def __repr__(self) -> str:
        waiting = sum(flight.waiters for flight in self._flights.values())
        return f"<SingleFlight {len(self._flights)} in flight for {waiting} callers, around {self._executor!r}>"


def _landed(flight: _Flight, command: CommandConfig) -> CommandResult:
    """Return the result of a shared run, or raise its error, for one of its callers."""
    if flight.run.cancelled():  # not by this caller, so it must not see a `CancelledError`
        message = f"{command.display()}: the run it shared with equal commands was cancelled"
        raise TaskCancelled(message, command=command, end_reason=EndReason.CANCELLED) from _cause(flight.run)
    error = flight.run.exception()
    if error is None:
        result = checked_result(flight.run.result(), command)
        return result if command is flight.command else dataclasses.replace(result, command=command)
    try:
        raise error if command is flight.command else _own(error, command)
    finally:
        del error, flight  # as in `execute`


def _own(error: BaseException, command: CommandConfig) -> BaseException:
    """Return a copy of a shared error for one more caller, because one object would collect all tracebacks."""
    if not isinstance(error, ExecuteError):
        return error
    own = copy.copy(error)
    own.command = command
    if own.result is not None:
        own.result = dataclasses.replace(own.result, command=command)
    return own.with_traceback(error.__traceback__)


def _cause(run: "asyncio.Task[CommandResult]") -> BaseException | None:
    """Return the cause of a cancelled run's error, in which backends put the output so far."""
    if not run.cancelled():
        return run.exception()
    try:
        run.result()
    except asyncio.CancelledError as cancellation:
        return cancellation.__cause__
    raise AssertionError("a cancelled task gave a result")
