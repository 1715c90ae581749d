"""Keeps a process alive through signals that others send it: commands know the pid of their parent (`kill $PPID`)."""

import os
import sys

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # `signal` adds enums to it: `enum` and `collections` cost each worker 5 ms and 0.5 MB

__all__ = ["hear_only", "signal"]

# Two signals belong to glibc (nptl(7)), three to musl, which let nobody block them; unhandled, they are as deadly as
# others. So the kernel is asked: the number of rt_sigprocmask(2), where it is known.
_NUMBERS = {"x86_64": 14, "aarch64": 135, "riscv64": 135, "loongarch64": 135, "ppc64le": 174, "s390x": 175}
_INTERNAL = 1 << 31 | 1 << 32 | 1 << 33  # 32 to 34
_SET_SIZE = 8  # bytes of a set of signals in the kernel


def hear_only(*numbers: int) -> None:
    """Block all signals but these, for good; KILL and STOP cannot be blocked.

    A fault of this process itself ends it all the same: that signal is forced upon it. What it forks inherits the mask,
    and must empty it before it becomes a program.
    """
    # None is unblocked on the way. With a new mask as a whole (SIG_SETMASK), glibc would let the internal ones through
    # for a moment, in which one that waits is delivered.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    machine = os.uname().machine
    if sys.platform == "linux" and machine in _NUMBERS and sys.maxsize > 2**32:
        import ctypes

        mask = ctypes.c_uint64(_INTERNAL)
        ctypes.CDLL(None).syscall(_NUMBERS[machine], signal.SIG_BLOCK, ctypes.byref(mask), None, _SET_SIZE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
