"""What a signal handler raises (KeyboardInterrupt, SystemExit, anything) in a thread that waits."""

from collections.abc import Callable


def wait_or_end(wait: Callable[[], object], end: Callable[[], object]) -> None:
    """Wait for something; when interrupted, end it, however often that is interrupted as well.

    There are two loops because a handler may run at the jump back of the inner one, which no `try` in it covers. Only
    handlers that raise at two such moments in a row would get through, and they take longer than that themselves.

    Args:
        wait: Raises nothing of its own.
        end: Returns when it is ended. Raises nothing of its own, and may be called again.

    Raises:
        BaseException: The last interruption, once it is ended.
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
            del interruption  # else this frame and the error keep each other alive
