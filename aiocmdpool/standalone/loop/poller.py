"""`Poller`: waits for descriptors, with `epoll` if there is one, else with `poll`."""

import select

READ = select.POLLIN  # EPOLLIN has the same value, and so have the others: poll(2), epoll_ctl(2)
WRITE = select.POLLOUT


class Poller:
    """Calls the handlers of descriptors when events happen on those.

    Args:
        failed: Called with (owner, exception) when a handler that has an owner raises; the other handlers of the batch
            are still called. An exception of a handler without an owner ends `dispatch`.
    """

    def __init__(self, failed=None) -> None:  # type: ignore[no-untyped-def]
        self._poll: select.epoll | select.poll
        if hasattr(select, "epoll"):
            self._poll, self._unit = select.epoll(), 1  # seconds
        else:
            self._poll, self._unit = select.poll(), 1000  # milliseconds
        self._failed = failed
        self._handlers = {}  # type: ignore[var-annotated]  # dict[int, tuple[Callable[[int], None], object]]

    def watch(self, fd: int, handler, events: int = READ, owner=None) -> None:  # type: ignore[no-untyped-def]
        """Call `handler(events)` when one of `events` happens on `fd`; `owner` gets its exceptions."""
        if fd in self._handlers:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._handlers[fd] = handler, owner

    def forget(self, fd: int) -> None:
        """Stop watching the descriptor `fd`; to be called before it is closed.

        A closed descriptor leaves an epoll set by itself only if nobody has a copy of it (epoll(7), questions and
        answers). A forked child has one until its `exec`: its events would go to the next owner of the number.
        """
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def dispatch(self, seconds: float) -> None:
        """Wait up to `seconds` (negative: for ever) and call the handlers of the events.

        A handler may forget other descriptors of the same batch; a new descriptor that reuses the number of a closed
        one must not be watched before `dispatch` returns.
        """
        handlers = self._handlers
        for fd, events in self._poll.poll(seconds * self._unit):
            entry = handlers.get(fd)
            if entry is None:
                continue
            try:
                entry[0](events)
            except Exception as error:
                if entry[1] is None:
                    raise
                self._failed(entry[1], error)
