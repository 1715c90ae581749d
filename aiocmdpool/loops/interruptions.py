"""`wait_or_end`: handles exceptions that a signal handler raises (KeyboardInterrupt, …) in a waiting thread."""

from collections.abc import Callable


def wait_or_end(wait: Callable[[], object], end: Callable[[], object]) -> None:
    """Call `wait`; when it is interrupted, call `end` until that returns, however often it is interrupted, too.

    There are two loops because a handler may run at the backward jump of the inner one, which no `try` in it covers.
    Only handlers that raise at two such moments in a row would get through, and they take longer than that themselves.

    Args:
        wait: Waits for the work; raises nothing of its own.
        end: Ends the work and returns then; raises nothing of its own, and may be called again.

    Raises:
        BaseException: The last interruption, once the work is ended.
    """
    interruption: BaseException | None = None
    over = False
    while not over:
        try:
            while not over:
                try:
                    if interruption is None:
                        wait()
                    else:
                        end()
                    over = True
                except BaseException as error:
                    interruption = error
        except BaseException as error:
            interruption = error
    if interruption is not None:
        try:
            raise interruption
        finally:
            del interruption  # break the cycle of this frame and the error
