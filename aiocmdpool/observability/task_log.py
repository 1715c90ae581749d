"""Logs a line for each task that is settled, under `aiocmdpool.pool`.

Failures are logged at INFO, because whoever awaits the task gets the error; signs of trouble in the machinery, a lost
worker or a foreign exception, at WARNING; everything else at DEBUG. Lines contain the label or the command line, like
messages of errors, but never the environment or stdin data.
"""

import logging

from aiocmdpool.commands.errors import ExecuteError, WorkerLost
from aiocmdpool.observability.events import TaskFinished
from aiocmdpool.system.safe_log import SafeLog
from aiocmdpool.tasks.handle import Cancellation
from aiocmdpool.tasks.status import TaskStatus

POOL_LOG = logging.getLogger("aiocmdpool.pool")
_log = SafeLog(POOL_LOG.name)

# A library is silent until a handler is set: without this, `logging.lastResort` would write warnings to stderr.
logging.getLogger("aiocmdpool").addHandler(logging.NullHandler())


def level_of(status: TaskStatus, error: BaseException | Cancellation | None) -> int:
    """Return the log level for the end of a task."""
    if status is not TaskStatus.FAILED:
        return logging.DEBUG
    if isinstance(error, ExecuteError) and not isinstance(error, WorkerLost):
        return logging.INFO
    return logging.WARNING


def log_finished(level: int, event: TaskFinished) -> None:
    """Log the end of a task at `level`."""
    shown = event.command.display()
    result, error, reason = event.result, event.error, event.end_reason
    fields = {
        "task_id": event.task_id,
        "command": shown,
        "status": event.status.value,
        "returncode": result.returncode if result is not None else None,
        "end_reason": reason.value if reason is not None else None,
        "queued": event.queued,
        "spawn": event.spawn,
        "run": event.run,
    }
    if error is None and result is not None:
        _log.log(level, "%s: %s in %.3f s", shown, result.status_text(), result.duration, extra=fields)
    elif isinstance(error, ExecuteError):
        _log.log(level, "%s", error, extra=fields)
    else:
        _log.log(level, "%s: its executor failed: %r", shown, error, extra=fields, exc_info=error)
