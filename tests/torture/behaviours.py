"""Hostile programs, one behaviour each: a new one is a file in `programs/` and a line here.

Each is called with a named pipe to say its mark to when it is ready, that mark, and `stay` or `leave`: whether the
program itself lives on or exits. The mark is in the arguments and in the environment of everything it starts.
"""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .scenery import MOUNT, ON_THE_MOUNT, UNKILLABLE

PROGRAMS = Path(__file__).resolve().parent / "programs"
MARK_NAME = "AIOCMDPOOL_TORTURE"  # the environment variable with the mark

STAY, LEAVE = "stay", "leave"
_BOTH = (STAY, LEAVE)


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """One way not to be killed."""

    program: str
    endings: tuple[str, ...] = (STAY,)
    """Whether it can live on until it is ended, exit by itself and leave something, or both."""
    words: tuple[str, ...] = ()
    floods: bool = False
    """Writes without end, so that silence never ends it and a limit of its output does."""
    anonymous: bool = False
    """Leaves a process whose environment and parents do not say where it comes from."""
    escapes: bool = False
    """Leaves a process that is in no group of the program."""
    forges: bool = False
    """Leaves a process whose environment says that it is somebody else's: its descent alone tells whose it is."""
    family: str = ""
    """Shares a host only with its family, as many at once as `AT_ONCE` says; empty: with all that have none."""
    triggers: frozenset[str] | None = None
    """The only triggers it has to do with; `None`: all."""
    needs_worker: bool = False
    """Is about a parent that is not the host itself."""
    ends_parent: bool = False
    """Makes its parent useless: what else runs in that worker may be lost with it (`WorkerLost`)."""
    unkillable: bool = False
    """May live on if its caller gets a `ChildError` that says which pid that is."""
    on_the_mount: str = ""
    """The part of the command that is on a file system that does not answer; it never gets ready."""

    def argv(self, ready: str, mark: str, ending: str) -> list[str]:
        """How it is started."""
        if self.unkillable:
            return [os.environ[UNKILLABLE], ready, mark]
        interpreter = _INTERPRETERS[Path(self.program).suffix]
        return [*interpreter, str(PROGRAMS / self.program), ready, mark, ending, *self.words]

    @property
    def available(self) -> bool:
        """Whether this machine has what the program needs."""
        if self.unkillable or self.on_the_mount:
            return (UNKILLABLE if self.unkillable else MOUNT) in os.environ
        return not self.program.endswith(".pl") or has_perl()


AT_ONCE = {"bombs": 1, "silence": 6, "unkillable": 3, "parent": 1}
_TOLD = frozenset({"timeout", "cancel", "close"})  # ends of which somebody hears
_OF_A_WORKER = frozenset({"timeout", "cancel", "close", "host_kill"})

BEHAVIOURS = {
    "ignore_term": Behaviour("ignore_term.sh"),
    "ignore_everything": Behaviour("ignore_everything.pl"),
    "two_sleeps": Behaviour("two_sleeps.sh", _BOTH),
    "double_fork": Behaviour("double_fork.sh", _BOTH),
    "hold_pipes": Behaviour("hold_pipes.sh", _BOTH),
    "leave_quietly": Behaviour("leave_quietly.sh", _BOTH),
    "exit_at_once": Behaviour("exit_at_once.sh", (LEAVE,)),
    "close_pipes": Behaviour("close_pipes.sh"),
    "stop_itself": Behaviour("stop_itself.pl"),
    "flood_stdout": Behaviour("flood.pl", words=("stdout",), floods=True),
    "flood_both": Behaviour("flood.pl", words=("both",), floods=True),
    "set_session": Behaviour("set_session.pl", _BOTH, escapes=True),
    "daemonize": Behaviour("daemonize.pl", _BOTH, ("keep",), escapes=True),
    "daemonize_anonymously": Behaviour("daemonize.pl", _BOTH, ("forget",), escapes=True, anonymous=True),
    "fork_chain": Behaviour("fork_chain.pl", _BOTH, ("group",)),
    "fork_chain_of_sessions": Behaviour("fork_chain.pl", _BOTH, ("sessions",), escapes=True),
    "main_thread_gone": Behaviour("main_thread_gone.py", words=("itself",)),
    "main_thread_gone_escaped": Behaviour("main_thread_gone.py", _BOTH, ("escaped",), escapes=True),
    "join_group": Behaviour("join_group.py", words=("itself",)),
    "join_group_child": Behaviour("join_group.py", _BOTH, ("child",), escapes=True),
    "wipe_environment": Behaviour("wipe_environment.py", words=("exec",), escapes=True),
    "wipe_environment_in_place": Behaviour("wipe_environment.py", words=("overwrite",), escapes=True),
    **{
        f"forge_mark_{how}": Behaviour("forge_mark.py", _BOTH, (how,), escapes=True, forges=True)
        for how in ("unknown", "neighbour", "detached", "huge", "bytes")
    },
    "fork_bomb": Behaviour("fork_bomb.py", _BOTH, escapes=True, family="bombs"),
    "unkillable": Behaviour("unkillable.c", family="unkillable", triggers=_TOLD, unkillable=True),
    **{
        f"{verb}_parent": Behaviour(
            f"{verb}_parent.py", family="parent", triggers=_OF_A_WORKER, needs_worker=True, ends_parent=True
        )
        for verb in ("stop", "trace")
    },
    **{
        f"silent_{part}": Behaviour(
            "ignore_term.sh", family="silence", triggers=_OF_A_WORKER, needs_worker=True, on_the_mount=part
        )
        for part in ON_THE_MOUNT
    },
}

_INTERPRETERS = {".sh": ["/bin/sh"], ".pl": ["perl"], ".py": [sys.executable, "-I", "-S"]}


@functools.cache
def has_perl() -> bool:
    """Whether there is a Perl with its POSIX module."""
    perl = shutil.which("perl")
    command = [perl or "", "-e", "use POSIX ();"]
    return perl is not None and subprocess.run(command, check=False, env=dict(os.environ), timeout=10).returncode == 0
