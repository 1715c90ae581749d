"""A process that hears only what it needs."""

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable

import pytest

from aiocmdpool.standalone.kernel.signals import hear_only


def status_of(act: Callable[[], object]) -> int:
    """How a child ends that hears only SIGCHLD and does something."""
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            faulthandler.disable()  # pytest's; it would tell of this as of a crash
            hear_only(signal.SIGCHLD)
            act()
            os._exit(5)
        finally:
            os._exit(6)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fault() -> None:
    import ctypes

    ctypes.string_at(0)


def send_itself_everything() -> None:
    for number in set(range(1, 65 if sys.platform == "linux" else signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP}:
        os.kill(os.getpid(), number)


def hear_only_again() -> None:
    """As the shim does, which has inherited the mask, and perhaps signals that wait."""
    send_itself_everything()
    hear_only(signal.SIGCHLD)


@pytest.mark.parametrize(
    ("act", "status"),
    [(send_itself_everything, 5), (hear_only_again, 5), (fault, -signal.SIGSEGV), (os.abort, -signal.SIGABRT)],
)
def test_a_fault_of_its_own_is_deadly_and_a_signal_is_not(act, status):
    assert status_of(act) == status
