"""`SafeLog` and `safe_warn`: reports that handlers, filters and hooks of other people cannot turn into failures.

`logging.Handler.emit` may raise anything, and a logger passes that on: to a runner in the middle of settling a task, or
to a timer that is about to replace a worker. Code that logs by this class goes on.
"""

import contextlib
import logging
import sys
import traceback
import warnings
from typing import Any


class SafeLog:
    """The methods of a `logging.Logger` that this package uses; they never raise an `Exception`.

    Args:
        name: Name of the logger.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, message: str, *args: object, **options: Any) -> None:
        """Log `message` at level INFO."""
        self._log(logging.INFO, message, args, options)

    def warning(self, message: str, *args: object, **options: Any) -> None:
        """Log `message` at level WARNING."""
        self._log(logging.WARNING, message, args, options)

    def exception(self, message: str, *args: object, **options: Any) -> None:
        """Log `message` at level ERROR, with the exception that is being handled."""
        self._log(logging.ERROR, message, args, {"exc_info": True, **options})

    def log(self, level: int, message: str, *args: object, **options: Any) -> None:
        """Log `message` at the level `level`."""
        self._log(level, message, args, options)

    def _log(self, level: int, message: str, args: tuple[object, ...], options: dict[str, Any]) -> None:
        try:
            self._logger.log(level, message, *args, stacklevel=3, **options)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            _print_error()


def safe_warn(message: str, category: type[Warning]) -> None:
    """Warn in the name of the caller's caller. Raises no `Exception`.

    Where warnings are errors (`-W error`), there is none; what else `warnings.showwarning` raises is printed:
    `logging.captureWarnings` puts the handlers of `SafeLog` there.
    """
    try:
        warnings.warn(message, category, stacklevel=3)
    except category:
        pass
    except Exception:
        _print_error()


def _print_error() -> None:
    """Print the exception that is being handled, as `logging.Handler.handleError` does, where there is a stderr."""
    if logging.raiseExceptions and sys.stderr:
        with contextlib.suppress(Exception):  # it is closed, full, or a pipe that nobody reads
            traceback.print_exc()
