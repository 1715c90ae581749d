"""Whether a descriptor that others share can be read or written without blocking.

Our standard streams belong to the terminal, the shell and our neighbours in a pipeline too. Making them non-blocking
(as libuv does to whatever it watches) would break those: the flag sits on the open file they all share. So the
descriptor is registered with an `epoll` (on BSD and macOS a `kqueue`) of our own, and the event loop watches that.
"""

import asyncio
import select
import sys
from collections.abc import Callable

if sys.platform == "linux":
    _Poller = select.epoll

    def _open(fd: int, to_write: bool) -> _Poller:
        poller = select.epoll()
        try:
            poller.register(fd, select.EPOLLOUT if to_write else select.EPOLLIN)
        except OSError:
            poller.close()
            raise
        return poller

    def _poll(poller: _Poller) -> bool:
        return bool(poller.poll(0, 1))

else:
    _Poller = select.kqueue

    def _open(fd: int, to_write: bool) -> _Poller:
        poller = select.kqueue()
        kind = select.KQ_FILTER_WRITE if to_write else select.KQ_FILTER_READ
        try:
            poller.control([select.kevent(fd, kind, select.KQ_EV_ADD)], 0)
        except OSError as error:
            poller.close()
            raise PermissionError(error.errno, error.strerror) from error
        return poller

    def _poll(poller: _Poller) -> bool:
        return bool(poller.control(None, 1, 0))


def settle(future: "asyncio.Future[None]") -> None:
    """Wake who waits for a future, unless they have gone."""
    if not future.done():
        future.set_result(None)


class Readiness:
    """Level-triggered readiness of one descriptor, which keeps its flags.

    Raises:
        PermissionError: Files of this kind (regular files, the null device) never block and cannot be watched.
    """

    def __init__(self, fd: int, *, to_write: bool = False) -> None:
        self._poller = _open(fd, to_write)
        self._watching = False

    def now(self) -> bool:
        """Whether reading, or writing up to `PIPE_BUF` bytes, would not block (it may well fail)."""
        return _poll(self._poller)

    def call_once(self, callback: Callable[[], object]) -> None:
        """Have the running loop call back, once, when it is ready."""

        def ready() -> None:
            self.forget()
            callback()

        self._watching = True
        asyncio.get_running_loop().add_reader(self._poller.fileno(), ready)

    def forget(self) -> None:
        """Withdraw `call_once`."""
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._poller.fileno())

    def close(self) -> None:
        """Let go; the descriptor itself stays open."""
        self.forget()
        self._poller.close()
