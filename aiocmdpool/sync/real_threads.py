"""Whether the threads and processes of the standard library are what they seem."""

import sys

from aiocmdpool.commands.errors import ExecuteError

GEVENT = ("_thread", "threading", "subprocess", "os")
EVENTLET = ("thread", "subprocess", "os")


def check_real_threads() -> None:
    """Refuse to start a loop in what is no thread: it would hold up the whole process, for good.

    A greenlet that waits at a lock of the operating system holds up all others; so even with true threads for the loop,
    patched ones could not be served.

    Raises:
        ExecuteError: gevent or eventlet has replaced them.
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
    """Return the modules that gevent has patched, of those that matter."""
    monkey = sys.modules.get("gevent.monkey")
    return [] if monkey is None else [name for name in GEVENT if monkey.is_module_patched(name)]


def eventlet_patched() -> list[str]:
    """Return the modules that eventlet has patched, of those that matter."""
    patcher = sys.modules.get("eventlet.patcher")
    return [] if patcher is None else [name for name in EVENTLET if patcher.is_monkey_patched(name)]
