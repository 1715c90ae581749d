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

    def argv(self, ready: str, mark: str, ending: str) -> list[str]:
        """How it is started."""
        interpreter = _INTERPRETERS[Path(self.program).suffix]
        return [*interpreter, str(PROGRAMS / self.program), ready, mark, ending, *self.words]

    @property
    def available(self) -> bool:
        """Whether this machine has what the program needs."""
        return not self.program.endswith(".pl") or has_perl()


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
}

_INTERPRETERS = {".sh": ["/bin/sh"], ".pl": ["perl"], ".py": [sys.executable, "-I", "-S"]}


@functools.cache
def has_perl() -> bool:
    """Whether there is a Perl with its POSIX module."""
    perl = shutil.which("perl")
    command = [perl or "", "-e", "use POSIX ();"]
    return perl is not None and subprocess.run(command, check=False, env=dict(os.environ), timeout=10).returncode == 0
