"""`Retry`: runs a command again if its failure may pass.

tenacity and stamina were tried for the loop below. Stamina decides on exceptions only, and a program that fails without
`check` gives a result. Tenacity takes 20 µs for each command that succeeds at once (all of `CommandPool` takes 45), and
ties every failed outcome into a reference cycle, so that the captured output of all attempts stays in memory until a
garbage collection. All that would remain of it is one line of arithmetic.
"""

import asyncio
import dataclasses
from collections.abc import Callable

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import IoError
from aiocmdpool.commands.executor import CommandExecutor, checked_executor, checked_result
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.policies.backoff import Backoff, clean_backoff
from aiocmdpool.policies.classify import FINAL, Outcome, describe, may_pass
from aiocmdpool.policies.wrapper import Wrapper
from aiocmdpool.system.safe_log import SafeLog

_log = SafeLog(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that is followed by another, for `on_retry`."""

    command: CommandConfig
    number: int
    """Number of the attempt; the first is 1."""
    outcome: Outcome
    """Result or error of the attempt."""
    pause: float
    """Seconds until the next attempt."""


class Retry(Wrapper):
    """An executor that runs a command up to `attempts` times, with pauses in between.

    The caller gets the outcome of the last attempt, unwrapped, as it would without this policy. If that is an error,
    its notes (`__notes__`, shown with the traceback) describe the earlier attempts, as text: a group of errors would
    not be caught by `except NonZeroExit`, and would hold the output of all of them. `on_retry` is called for each; the
    log has them, too.

    Whatever `retry_if` returns, `TaskCancelled`, `PoolClosed` and `ConfigError` are final, and so is any outcome after
    the start of a command whose `stdin` is a descriptor or inherited: input that was read cannot be read again.

    Cancellation: ends the attempt, or the pause; no other follows.

    Ownership: does not close the executor. Once that is closed, the next attempt ends in its `PoolClosed`.

    Args:
        executor: The executor that runs each attempt.
        attempts: Most attempts, including the first.
        backoff: The pauses; a number for that many seconds each time.
        retry_if: Function that tells whether a result or an error is worth another attempt.
        deadline: Seconds after the first attempt's start after which no attempt begins. A running attempt is limited by
            the command's own `timeout`. `None`: no such limit.
        on_retry: Called before each pause. Its errors are logged.

    Example:
        >>> executor = Retry(backend, attempts=5, backoff=Backoff(0.2, maximum=10), deadline=60)
        >>> result = await executor.execute(CommandConfig("curl", ["-sf", url], timeout=10, check=True))
    """

    def __init__(
        self,
        executor: CommandExecutor,
        *,
        attempts: int = 3,
        backoff: Backoff | float = Backoff(),  # noqa: B008  # frozen
        retry_if: Callable[[Outcome], bool] = may_pass,
        deadline: float | None = None,
        on_retry: Callable[[FailedAttempt], object] | None = None,
    ) -> None:
        self._executor = checked_executor(executor)
        self._attempts: int = validate.whole_number(1)("attempts", attempts)
        self._backoff = clean_backoff("backoff", backoff)
        self._retry_if: Callable[[Outcome], bool] = validate.function("retry_if", retry_if)
        self._deadline = validate.seconds("deadline", deadline)
        self._on_retry = None if on_retry is None else validate.function("on_retry", on_retry)
        self._pausing = 0

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` until it succeeds or another attempt is useless; see `CommandExecutor.execute`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: Outcome | None = None
        notes: list[str] = []
        try:
            for number in range(1, self._attempts + 1):
                outcome = await self._outcome(command, control)
                if number == self._attempts or not self._worth_another(command, control, outcome):
                    break
                pause = self._backoff.pause(number)
                if self._deadline is not None and loop.time() + pause > began + self._deadline:
                    notes.append(f"attempt {number + 1} would begin after the deadline of {self._deadline:g} s")
                    break
                notes.append(f"attempt {number} of {self._attempts}: {describe(outcome)}; again after {pause:.2f} s")
                self._tell(FailedAttempt(command, number, outcome, pause), notes[-1])
                outcome = None  # drop its output now, not after the next attempt
                await self._sleep(pause)
            assert outcome is not None
            if isinstance(outcome, CommandResult):
                return outcome
            for note in notes:
                outcome.add_note(note)
            raise outcome
        finally:
            del outcome  # break the cycle with the error's traceback, which would keep its output alive

    async def _outcome(self, command: CommandConfig, control: RunControl | None) -> Outcome:
        try:
            return checked_result(await execute_on(self._executor, command, control), command)
        except Exception as error:
            return error

    def _worth_another(self, command: CommandConfig, control: RunControl | None, outcome: Outcome) -> bool:
        if isinstance(outcome, FINAL):
            return False
        if control is not None and control.pid is not None:  # its caller has already talked to the program
            return False
        fed_once = isinstance(command.stdin, int) or command.stdin is Stdio.INHERIT
        if fed_once and not isinstance(outcome, IoError):
            return False
        return self._retry_if(outcome)

    def _tell(self, attempt: FailedAttempt, note: str) -> None:
        _log.info("%s: %s", attempt.command.display(), note)
        if self._on_retry is not None:
            try:
                self._on_retry(attempt)
            except Exception:
                _log.exception("on_retry raised an error; the command is tried again all the same")

    async def _sleep(self, seconds: float) -> None:
        self._pausing += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._pausing -= 1

    def __repr__(self) -> str:
        return (
            f"<Retry {self._attempts} attempts, {self._backoff!r}, {self._pausing} pausing, around {self._executor!r}>"
        )
