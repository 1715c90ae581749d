"""Requests of a process for itself by prctl(2), which only Linux has."""

import sys

from .signals import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Become the parent of orphaned descendants, in place of init; return whether that worked."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def hide_from_equals() -> bool:
    """Keep other processes of this user from tracing this one, and from opening its memory and descriptors in /proc.

    Privileged ones still can. Forked children are hidden as well, until they execute a program (begin_new_exec in the
    kernel's fs/exec.c). From here on the files in /proc/self belong to root (proc_pid(5)): an ordinary user can read
    only those that everybody can, and write none, so writes have to come before.
    """
    return _prctl(PR_SET_DUMPABLE, 0)


def be_visible() -> bool:
    """Undo `hide_from_equals`: let other processes of this user trace this one again."""
    return _prctl(PR_SET_DUMPABLE, 1)


def go_on_without_parent() -> bool:
    """Have this process continued if it is stopped when its parent dies, so that it notices the death.

    SIGCONT and nothing stronger: the signal also comes when the *thread* that started this process ends.
    """
    return _prctl(PR_SET_PDEATHSIG, signal.SIGCONT)


def hear_of_parents_death(number: int) -> bool:
    """Have the kernel send the signal `number` to this process when its parent, a single-threaded process, dies."""
    return _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    return int(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)) == 0
