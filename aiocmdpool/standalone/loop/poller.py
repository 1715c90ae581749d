"""Waits for descriptors: `epoll` where there is one, `poll` elsewhere."""

import select

READ = select.POLLIN  # EPOLLIN has the same value, and so on: poll(2), epoll_ctl(2)
WRITE = select.POLLOUT


class Poller:
    """Handlers by descriptor."""

    def __init__(self) -> None:
        self._poll: select.epoll | select.poll
        if hasattr(select, "epoll"):
            self._poll, self._unit = select.epoll(), 1  # seconds
            self.drop = self._drop  # a closed descriptor leaves an epoll set by itself: epoll(7), questions, 6
        else:
            self._poll, self._unit = select.poll(), 1000  # milliseconds
            self.drop = self.forget
        self._handlers = {}  # type: ignore[var-annotated]  # dict[int, Callable[[int], None]]

    def watch(self, fd: int, handler, events: int = READ) -> None:  # type: ignore[no-untyped-def]
        """Call `handler(events)` when something happens on `fd`."""
        if fd in self._handlers:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._handlers[fd] = handler

    def _drop(self, fd: int) -> None:
        """Stop watching a descriptor that is closed next."""
        self._handlers.pop(fd, None)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor that stays open."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def dispatch(self, seconds: float) -> None:
        """Wait so long (negative: for ever) and call the handlers of what happened.

        A handler may forget other descriptors of the same batch; a new one with the number of one that was closed must
        not be watched before `dispatch` returns.
        """
        handlers = self._handlers
        for fd, events in self._poll.poll(seconds * self._unit):
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)
