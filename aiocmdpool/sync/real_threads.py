"""`check_real_threads`: refuses to work with threads and processes that gevent or eventlet has patched."""

import sys

from aiocmdpool.commands.errors import ExecuteError

GEVENT = ("_thread", "threading", "subprocess", "os")
EVENTLET = ("thread", "subprocess", "os")


def check_real_threads() -> None:
    """Raise `ExecuteError` if threads are greenlets: a loop in one would block the whole process for good.

    A greenlet that waits for a lock of the operating system blocks all others; so even a real thread for the loop could
    not serve patched threads.

    Raises:
        ExecuteError: gevent or eventlet has patched threads or processes.
    """
    patched = gevent_patched()
    if patched:
        raise ExecuteError(
            f"aiocmdpool.sync needs real threads and processes, and gevent has patched {', '.join(patched)}: use "
            "monkey.patch_all(thread=False, subprocess=False, os=False, signal=False), and make blocking calls by "
            "gevent.get_hub().threadpool.apply(sync.run, args), so that other greenlets go on"
        )
    patched = eventlet_patched()
    if patched:
        raise ExecuteError(
            f"aiocmdpool.sync needs real threads and processes, and eventlet has patched {', '.join(patched)}: use "
            "eventlet.monkey_patch(thread=False, subprocess=False, os=False), and make blocking calls by "
            "eventlet.tpool.execute(sync.run, …), so that other greenlets go on"
        )


def gevent_patched() -> list[str]:
    """Return which of the modules that matter gevent has patched."""
    monkey = sys.modules.get("gevent.monkey")
    return [] if monkey is None else [name for name in GEVENT if monkey.is_module_patched(name)]


def eventlet_patched() -> list[str]:
    """Return which of the modules that matter eventlet has patched."""
    patcher = sys.modules.get("eventlet.patcher")
    return [] if patcher is None else [name for name in EVENTLET if patcher.is_monkey_patched(name)]
