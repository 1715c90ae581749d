"""A process that hears only what it needs."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """\
import ctypes, os, resource, signal, sys
from aiocmdpool.standalone.kernel.signals import hear_only

def send_itself_everything():
    for number in set(range(1, 65 if sys.platform == "linux" else signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP}:
        os.kill(os.getpid(), number)

def hear_only_again():  # as the shim does, which has inherited the mask, and perhaps signals that wait
    send_itself_everything()
    hear_only(signal.SIGCHLD)

def fault():
    ctypes.string_at(0)

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
hear_only(signal.SIGCHLD)
ACT()
os._exit(5)
"""


@pytest.mark.parametrize(
    ("act", "status"),
    [("send_itself_everything", 5), ("hear_only_again", 5), ("fault", -signal.SIGSEGV), ("os.abort", -signal.SIGABRT)],
)
def test_a_fault_of_its_own_is_deadly_and_a_signal_is_not(act, status):
    # No fork of this process: libraries that others have loaded here (OpenTelemetry) start threads in forked children,
    # and a thread with another mask would get the signals.
    assert subprocess.run([sys.executable, "-c", PROGRAM.replace("ACT", act)]).returncode == status
