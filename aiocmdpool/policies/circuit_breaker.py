"""`CircuitBreaker`: refuses commands at once, for a while, after failures in a row.

purgatory and aiobreaker were considered. Purgatory lets any number of commands through while half open, takes a
cancelled one for a failure (or, told to exclude it, for a success that closes the circuit), awaits its store on the way
in and out, where a second cancellation loses the outcome, uses the wall clock, and never forgets a name. aiobreaker has
had no release since 2021.
"""

import asyncio
from collections.abc import Callable, Hashable

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CircuitOpen
from aiocmdpool.commands.executor import CommandExecutor, checked_executor, checked_result
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import execute_on
from aiocmdpool.policies.circuits import Circuits, CircuitState
from aiocmdpool.policies.classify import Outcome, describe, failed
from aiocmdpool.policies.keys import Key, by_program, key_of
from aiocmdpool.policies.wrapper import Wrapper
from aiocmdpool.system.safe_log import SafeLog

_log = SafeLog(__name__)


class CircuitBreaker(Wrapper):
    """An executor that refuses commands of a key with `CircuitOpen` after `failures` of them in a row have failed.

    After `reset_after` seconds one command is let through: if it succeeds, all are again; if it fails, none for as long
    again. An outcome counts when it comes, unless the circuit has opened or closed since that command's start. A result
    that is no failure is a success; an error that is no failure, such as `PoolClosed`, counts as neither.

    Concurrency: belongs to one loop.

    Cancellation: counts as neither, too; if the trial is cancelled, the next command is the trial.

    Ownership: does not close the executor; its `PoolClosed` is passed on and opens no circuit.

    Args:
        executor: The executor that runs the commands.
        failures: Number of failures in a row that open a circuit.
        reset_after: Seconds that a circuit stays open.
        forget_after: Seconds after which a failure no longer counts, and an open circuit that nobody tries is closed.
        failed: Function that tells whether a result or an error is a failure.
        key: Function that returns the key of a command, each of which has a circuit; `None` for no circuit.

    Example:
        >>> executor = CircuitBreaker(backend, failures=5, reset_after=30, key=by_host)
    """

    def __init__(
        self,
        executor: CommandExecutor,
        *,
        failures: int = 5,
        reset_after: float = 30.0,
        forget_after: float = 300.0,
        failed: Callable[[Outcome], bool] = failed,
        key: Key = by_program,
    ) -> None:
        self._executor = checked_executor(executor)
        self._failures: int = validate.whole_number(1)("failures", failures)
        self._reset_after: float = validate.number(0, above=True)("reset_after", reset_after)
        forget: float = validate.number(0, above=True)("forget_after", forget_after)
        self._failed: Callable[[Outcome], bool] = validate.function("failed", failed)
        self._key: Key = validate.function("key", key)
        self._circuits = Circuits(self._failures, self._reset_after, forget)

    async def execute(self, command: CommandConfig, *, control: RunControl | None = None) -> CommandResult:
        """Run `command` and return its result, or refuse it; see `CommandExecutor.execute`.

        Raises:
            CircuitOpen: The command was not started; the message says why, and when one will be.
            ConfigError: `key` returned a key that is not hashable.
        """
        key = key_of(self._key, command)
        if key is None:
            return await execute_on(self._executor, command, control)
        loop = asyncio.get_running_loop()
        entry = self._circuits.enter(key, loop.time())
        if entry is None:
            raise self._refusal(key, command, loop.time())
        has_failed: bool | None = None  # an end without a result or error counts as neither
        why = ""
        try:
            result = checked_result(await execute_on(self._executor, command, control), command)
            has_failed = self._failed(result)
            if has_failed:
                why = describe(result)
            return result
        except Exception as error:
            if self._failed(error):
                has_failed, why = True, describe(error)
            raise
        finally:
            changed = self._circuits.leave(key, entry, loop.time(), has_failed, why)
            if changed is not None:
                self._log_change(key, changed, why)

    def state(self, key: Hashable) -> CircuitState:
        """Return the present state of the circuit `key`, for displays and health checks."""
        now = asyncio.get_running_loop().time()
        return self._circuits.get(key, now).state(now)

    def _refusal(self, key: Hashable, command: CommandConfig, now: float) -> CircuitOpen:
        circuit = self._circuits.get(key, now)
        left, when = None, "one command is being tried now"
        if circuit.trial is None and circuit.open_until is not None:
            left = circuit.open_until - now
            when = f"one will be tried in {left:.1f} s"
        which = f"the circuit {validate.shown(key)} is open"
        message = f"{command.display()}: not started, {which}; {when} (last failure: {circuit.why})"
        return CircuitOpen(message, command=command, key=key, retry_after=left)

    def _log_change(self, key: Hashable, state: CircuitState, why: str) -> None:
        if state is CircuitState.OPEN:
            _log.warning("circuit %r is open for %g s: %s", key, self._reset_after, why)
        else:
            _log.info("circuit %r is closed again", key)

    def __repr__(self) -> str:
        rule = f"{self._failures} failures, {self._reset_after:g} s"
        return f"<CircuitBreaker {rule}, {self._circuits.count_open()} open, around {self._executor!r}>"
