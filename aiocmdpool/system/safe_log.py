"""`SafeLog`: a logger whose handlers and filters, which are other people's, cannot break what logs.

`logging.Handler.emit` may raise whatever it likes, and a logger passes that on: to a runner in the middle of settling a
task, or to a timer that is about to replace a worker. Whoever logs here goes on.
"""

import logging
import traceback
from typing import Any


class SafeLog:
    """The methods of a `logging.Logger` that this package uses; they never raise an `Exception`.

    Args:
        name: Of the logger.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, message: str, *args: object, **options: Any) -> None:
        """Log at INFO."""
        self._log(logging.INFO, message, args, options)

    def warning(self, message: str, *args: object, **options: Any) -> None:
        """Log at WARNING."""
        self._log(logging.WARNING, message, args, options)

    def exception(self, message: str, *args: object, **options: Any) -> None:
        """Log at ERROR with the exception that is being handled."""
        self._log(logging.ERROR, message, args, {"exc_info": True, **options})

    def log(self, level: int, message: str, *args: object, **options: Any) -> None:
        """Log at a level."""
        self._log(level, message, args, options)

    def _log(self, level: int, message: str, args: tuple[object, ...], options: dict[str, Any]) -> None:
        try:
            self._logger.log(level, message, *args, stacklevel=3, **options)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            if logging.raiseExceptions:  # as `logging.Handler.handleError` does with the errors of its own
                traceback.print_exc()
