"""`SafeLog`: a logger whose handlers and filters, which are code of users, cannot break its caller.

`logging.Handler.emit` may raise anything, and a logger passes that on: to a runner in the middle of settling a task, or
to a timer that is about to replace a worker. Code that logs by this class goes on.
"""

import logging
import traceback
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
            if logging.raiseExceptions:  # as `logging.Handler.handleError` does with errors of handlers
                traceback.print_exc()
