"""What an outcome of a run says to a policy: worth another attempt, a failure of the program, or nothing.

An outcome is a result or an error; a program that fails gives the one without `check`, the other with it. The functions
here are the defaults of the policies, and parts to build one's own from.
"""

import errno

from aiocmdpool.commands.errors import (
    CircuitOpen,
    CommandTimeout,
    ConfigError,
    IoError,
    NonZeroExit,
    PoolClosed,
    QueueFull,
    TaskCancelled,
    WorkerLost,
)
from aiocmdpool.commands.result import CommandResult, EndReason

Outcome = CommandResult | Exception

FINAL = (TaskCancelled, PoolClosed, ConfigError)
"""Somebody wanted it to end, or it can never work: no attempt follows, whatever a predicate says."""

_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Failures to start (execve(2), fork(2)) that end by themselves: something is used up, or still being written."""

_SHOWN = 300  # characters of an error's message in a note


def may_pass(outcome: Outcome) -> bool:
    """Whether the same command may well succeed if it is run again.

    An exit status other than 0, a deadline of the run, a start that failed for want of something; a lost worker only
    if the command is `idempotent`, since it may have run. Not a wait in a queue: whoever gave that deadline has an
    answer to it.
    """
    match outcome:
        case CommandResult():
            return not outcome.ok
        case NonZeroExit():
            return True
        case CommandTimeout():
            return outcome.end_reason is not EndReason.QUEUE_TIMEOUT
        case IoError():
            return outcome.errno in _PASSING
        case WorkerLost():
            return outcome.command is not None and outcome.command.idempotent
        case _:
            return False


def failed(outcome: Outcome) -> bool:
    """Whether the outcome speaks against the program, or what it depends on.

    Everything that is no success, except what others decided (cancelled, closed, refused) and waits in a queue.
    """
    if isinstance(outcome, CommandResult):
        return not outcome.ok
    if isinstance(outcome, CommandTimeout):
        return outcome.end_reason is not EndReason.QUEUE_TIMEOUT
    return not isinstance(outcome, (*FINAL, QueueFull, CircuitOpen))


def describe(outcome: Outcome) -> str:
    """The outcome in one line, for messages and notes. Text only, so that nothing keeps the output alive."""
    if isinstance(outcome, CommandResult):
        return f"{outcome.status_text()} after {outcome.duration:.2f} s"
    text = " ".join(str(outcome).split())
    return f"{type(outcome).__name__}: {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"
