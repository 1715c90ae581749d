"""`Readiness`: tells whether a shared descriptor can be read or written without blocking.

Our standard streams also belong to the terminal, the shell and other programs of a pipeline. Making them non-blocking
(as libuv does to whatever it watches) would break those, because the flag belongs to the open file that all of them
share. So the descriptor is registered with an `epoll` (on BSD and macOS a `kqueue`) of our own, which the event loop
watches.
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


def resolve(future: "asyncio.Future[None]") -> None:
    """Resolve a future, unless it is resolved or cancelled already."""
    if not future.done():
        future.set_result(None)


class Readiness:
    """Level-triggered readiness of one descriptor, whose flags are not changed.

    Raises:
        PermissionError: Files of this kind (regular files, the null device) never block and cannot be watched.
    """

    def __init__(self, fd: int, *, to_write: bool = False) -> None:
        self._poller = _open(fd, to_write)
        self._watching = False

    def now(self) -> bool:
        """Return whether reading, or writing up to `PIPE_BUF` bytes, would not block (but it may fail)."""
        return _poll(self._poller)

    def call_once(self, callback: Callable[[], object]) -> None:
        """Have the running loop call `callback`, once, when the descriptor is ready."""

        def ready() -> None:
            self.forget()
            callback()

        self._watching = True
        asyncio.get_running_loop().add_reader(self._poller.fileno(), ready)

    def forget(self) -> None:
        """Withdraw a callback given to `call_once`."""
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._poller.fileno())

    def close(self) -> None:
        """Stop watching, and close the poller; the descriptor itself stays open."""
        self.forget()
        self._poller.close()
