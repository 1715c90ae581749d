"""Who is to be told when a task is settled, for any number of threads and without a lock."""

from collections.abc import Callable, Iterator

from aiocmdpool.tasks.handle import TaskHandle

Listener = Callable[[], object]


class Listeners:
    """Those who wait for the tasks of one pool, by task id.

    There is no lock that a thread could hold while a signal handler in it waits for the loop, which would wait for that
    lock. What is shared is a dict with numbers for keys, and lists whose members are compared by their identity or by
    that of what they are bound to: `setdefault`, `append`, `remove` and `pop` of these are atomic. Nobody is missed:
    who listens adds itself first and looks after that whether the task is settled; who settles does it the other way
    round. Each listener is called by whoever takes it off its list, so once.

    Kept with the pool and not with its handles, of which there may be a million that nobody waits for.
    """

    __slots__ = ("_lists",)

    def __init__(self) -> None:
        self._lists: dict[int, list[Listener]] = {}

    def add(self, handle: TaskHandle, listener: Listener) -> None:
        """Have something called once a task is settled; now, if it is."""
        if handle.done():
            listener()
            return
        listeners = self._lists.setdefault(handle.id, [])
        listeners.append(listener)
        if handle.done() and _remove(listeners, listener):
            listener()

    def remove(self, handle: TaskHandle, listener: Listener) -> bool:
        """Take that back; return whether it was still there."""
        listeners = self._lists.get(handle.id)
        return listeners is not None and _remove(listeners, listener)

    def of(self, handle: TaskHandle) -> list[Listener] | None:
        """Return those of a task, in the order in which they came; `None` if there never were any."""
        return self._lists.get(handle.id)

    def take(self, handle: TaskHandle) -> Iterator[Listener]:
        """Take those of a settled task off, one by one."""
        listeners = self._lists.pop(handle.id, None) if self._lists else None
        while listeners:
            try:
                listener = listeners.pop(0)
            except IndexError:  # another thread took the last one back
                return
            yield listener


def _remove(listeners: list[Listener], listener: Listener) -> bool:
    try:
        listeners.remove(listener)
    except ValueError:
        return False
    return True
