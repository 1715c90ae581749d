"""Decide how a finished run reaches its caller: as a result, or as the error that its end reason calls for."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiocmdpool.commands.errors import (
    ChildError,
    CommandTimeout,
    ExecuteError,
    NonZeroExit,
    OutputLimitExceeded,
    TaskCancelled,
)
from aiocmdpool.commands.result import CommandResult, EndReason

if TYPE_CHECKING:
    from aiocmdpool.commands.command import CommandConfig


def result_or_error(result: CommandResult) -> CommandResult:
    """Return the result of a run that ended well; raise the error of one that did not.

    Raises:
        CommandTimeout: `timeout` or `idle_timeout` passed.
        OutputLimitExceeded: `max_output`, or `max_output_total` of the pool, was exceeded under `OutputPolicy.FAIL`.
        TaskCancelled: The run was cancelled, or the backend was closed.
        NonZeroExit: The program did not exit with status 0 and its command has `check`.
    """
    if result.end_reason is EndReason.EXITED and not (result.command.check and result.returncode != 0):
        return result
    raise _error(result)


def _error(result: CommandResult) -> ExecuteError:
    command, name = result.command, result.command.display()
    how = f"; ended with {result.status_text()}"
    match result.end_reason:
        case EndReason.EXITED:
            return NonZeroExit(f"{name}: {result.status_text()}{_last_words(result)}", result=result)
        case EndReason.TIMEOUT:
            return CommandTimeout(f"{name}: ran longer than its timeout of {command.timeout:g} s{how}", result=result)
        case EndReason.IDLE_TIMEOUT:
            message = f"{name}: wrote nothing for its idle_timeout of {command.idle_timeout:g} s{how}"
            return CommandTimeout(message, result=result)
        case EndReason.OUTPUT_LIMIT:
            return OutputLimitExceeded(f"{name}: {_too_much(result)}", result=result)
        case EndReason.CLOSED:
            return TaskCancelled(f"{name}: what ran it was closed{how}", result=result)
        case _:
            return TaskCancelled(f"{name}: cancelled{how}", result=result)


def unkillable(
    command: "CommandConfig", reason: EndReason | None, alive: Iterable[tuple[int, str]], *, returned: bool
) -> ChildError:
    """Return the error for a run that still has living processes after SIGKILL.

    Args:
        command: The command that was run.
        reason: Why the run was ended.
        alive: Pid and name of each living process.
        returned: Whether the program itself has exited.
    """
    names = ", ".join(f"{pid} ({name})" if name else str(pid) for pid, name in alive)
    what = "what it left" if returned else "it"
    why = "it belongs to another user, or the kernel holds it in uninterruptible sleep"
    message = f"{command.display()}: {what} is still there after SIGKILL: {names}; {why}"
    return ChildError(message, command=command, end_reason=reason)


def _too_much(result: CommandResult) -> str:
    """Return the text about the limit on output that was exceeded, and its cure.

    It was the command's own limit if that many bytes of a stream have been kept.
    """
    limit, how = result.command.max_output, f"; ended with {result.status_text()}"
    if limit is not None and max(len(result.stdout or b""), len(result.stderr or b"")) >= limit:
        return (
            f"wrote more than its max_output of {limit} bytes{how}; raise max_output, or keep a part of it with "
            "output_policy"
        )
    return (
        "wrote more than was left of max_output_total, which it shares with all that its pool or backend runs (its own "
        f"max_output allows more){how}; raise max_output_total, send the output to a file, or run less at once"
    )


def _last_words(result: CommandResult) -> str:
    """Return the last line of stderr, for a message: most programs say there what went wrong."""
    lines = (result.stderr or b"").decode(result.command.encoding, "replace").strip().splitlines()
    return f": {lines[-1].strip()[:300]}" if lines else ""
