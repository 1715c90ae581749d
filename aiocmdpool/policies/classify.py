"""Classifies outcomes of runs for policies: worth another attempt, a failure of the program, or neither.

An outcome is a result or an error; a failing program gives a result without `check`, an error with it. The functions
here are the defaults of the policies, and building blocks for others.
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
"""Errors after which no attempt follows, whatever a predicate says: the end was wanted, or another try cannot work."""

_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Errnos of failures to start (execve(2), fork(2)) that may pass by themselves."""

_SHOWN = 300  # characters of an error's message in a note, at most


def may_pass(outcome: Outcome) -> bool:
    """Return whether the same command may well succeed if it is run again.

    That holds for an exit status other than 0, a deadline of the run, or a start that failed for lack of a resource;
    for a lost worker only if the command is `idempotent`, because it may have run. Not for a wait in a queue: the
    caller who set that deadline handles it.
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
    """Return whether the outcome counts against the program, or against a service that it depends on.

    That is any failure, except decisions of others (cancelled, closed, refused) and waits in a queue.
    """
    if isinstance(outcome, CommandResult):
        return not outcome.ok
    if isinstance(outcome, CommandTimeout):
        return outcome.end_reason is not EndReason.QUEUE_TIMEOUT
    return not isinstance(outcome, (*FINAL, QueueFull, CircuitOpen))


def describe(outcome: Outcome) -> str:
    """Return the outcome in one line, for messages and notes. As text, it does not keep the output alive."""
    if isinstance(outcome, CommandResult):
        return f"{outcome.status_text()} after {outcome.duration:.2f} s"
    text = " ".join(str(outcome).split())
    return f"{type(outcome).__name__}: {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"
