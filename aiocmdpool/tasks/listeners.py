"""`Listeners`: callbacks for the end of tasks, for any number of threads and without a lock."""

from collections.abc import Callable, Iterator

from aiocmdpool.tasks.handle import TaskHandle

Listener = Callable[[], object]


class Listeners:
    """The callbacks of all who wait for tasks of one pool, by task id.

    A lock would be unsafe: a thread could hold it while a signal handler in the same thread waits for the loop, and the
    loop would wait for that lock. All shared state is a dict with integer keys, and lists whose members are compared by
    identity (their own, or that of the object they are bound to): `setdefault`, `append`, `remove` and `pop` of these
    are atomic. No listener is missed: a listener first adds itself and then checks whether the task is settled;
    settling does the two in the opposite order. A listener is called by the thread that removes it, so once.

    The lists live in the pool and not in the handles: there may be a million handles that nobody waits for.
    """

    __slots__ = ("_lists",)

    def __init__(self) -> None:
        self._lists: dict[int, list[Listener]] = {}

    def add(self, handle: TaskHandle, listener: Listener) -> None:
        """Call `listener` once the task of `handle` is settled; call it now if it already is."""
        if handle.done():
            listener()
            return
        listeners = self._lists.setdefault(handle.id, [])
        listeners.append(listener)
        if handle.done() and _remove(listeners, listener):
            listener()

    def remove(self, handle: TaskHandle, listener: Listener) -> bool:
        """Remove `listener` from the task of `handle`; return whether it had not been called yet."""
        listeners = self._lists.get(handle.id)
        return listeners is not None and _remove(listeners, listener)

    def of(self, handle: TaskHandle) -> list[Listener] | None:
        """Return the listeners of a task in the order in which they were added; `None` if there are none."""
        return self._lists.get(handle.id)

    def take(self, handle: TaskHandle) -> Iterator[Listener]:
        """Yield the listeners of a settled task, and remove each one before it is yielded."""
        listeners = self._lists.pop(handle.id, None) if self._lists else None
        while listeners:
            try:
                listener = listeners.pop(0)
            except IndexError:  # another thread has just removed the last one
                return
            yield listener


def _remove(listeners: list[Listener], listener: Listener) -> bool:
    try:
        listeners.remove(listener)
    except ValueError:
        return False
    return True
