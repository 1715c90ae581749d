"""`Hooks`: calls the hooks of a pool so that none can break a run, or prevent another from being called."""

import asyncio
import inspect
from collections.abc import Iterable

from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.observability.events import EventHook, TaskEvent
from aiocmdpool.system.safe_log import SafeLog

_log = SafeLog("aiocmdpool.hooks")


class Hooks:
    """A sequence of hooks, called in their order.

    Raises:
        ConfigError: A hook is not callable, or is a coroutine function.
    """

    def __init__(self, hooks: Iterable[EventHook]) -> None:
        self._hooks = checked_hooks(hooks)
        self._reported: set[tuple[int, type[TaskEvent]]] = set()

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def tell(self, event: TaskEvent) -> None:
        """Call every hook with `event`.

        Raises:
            BaseException: The first that is no `Exception` (`KeyboardInterrupt`, `pytest.fail`), when all were called.
        """
        interruption: BaseException | None = None
        for hook in self._hooks:
            try:
                hook(event)
            except (Exception, asyncio.CancelledError):  # a CancelledError would pass for a cancellation of the caller
                self._report(hook, type(event))
            except BaseException as raised:
                interruption = interruption or raised
        if interruption is not None:
            try:
                raise interruption
            finally:
                del interruption  # break the cycle of this frame and the error

    def _report(self, hook: EventHook, kind: type[TaskEvent]) -> None:
        """Log the exception of a hook once for each kind of event: one that always fails would fill the log."""
        if (id(hook), kind) not in self._reported:
            self._reported.add((id(hook), kind))
            _log.exception(
                "hook %r raised at %s; it goes on being called, and is not reported again", hook, kind.__name__
            )


def checked_hooks(hooks: Iterable[EventHook]) -> tuple[EventHook, ...]:
    """Return `hooks` as a tuple if all of them can be hooks; raise `ConfigError` if not."""
    if not isinstance(hooks, Iterable):
        raise ConfigError(f"hooks: {hooks!r} is not a list of callables", field="hooks")
    kept = tuple(hooks)
    for number, hook in enumerate(kept):
        if not callable(hook):
            raise ConfigError(f"hooks[{number}]: {hook!r} cannot be called with an event", field="hooks")
        if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__):
            message = f"hooks[{number}]: {hook!r} is a coroutine function, and hooks are not awaited; make a task in it"
            raise ConfigError(message, field="hooks")
    return kept
