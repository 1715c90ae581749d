"""`Program`: the program of a run with its start, signals and exit status, and the processes that it leaves behind.

Nothing here waits; when to do what is decided in `command_run.py`.
"""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterable
from typing import NamedTuple

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ChildError
from aiocmdpool.commands.result import KillTier, LeakedProcess, Usage
from aiocmdpool.commands.run_control import ChildSetup
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.standalone.kernel.roundup import Roundup
from aiocmdpool.system.hunt import is_marked, look_for, pipe_holders
from aiocmdpool.system.launch import Report, launch
from aiocmdpool.system.reaping import reap_later, try_reap
from aiocmdpool.system.run_mark import new_mark
from aiocmdpool.system.start_failure import preparation_failure, silent_launcher
from aiocmdpool.system.stdio import ChildStdio

REMEMBERED = 10_000  # descendants that are noted of a program that is being ended
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts kilobytes on Linux, bytes on macOS


_living: "set[Program]" = set()
os.register_at_fork(after_in_child=_living.clear)


class Exit(NamedTuple):
    """The facts known about the exit of a program."""

    pid: int
    returncode: int
    usage: Usage | None


class Program:
    """A child of this process, leader of its own process group, from its start to the end of its last process.

    Attributes:
        pid: Process id of the child, and so the id of its process group.
        killed_by: Strongest means needed so far to end it or its leftovers; `None` for none.

    Raises:
        IoError: The program could not be started; nothing runs then.
    """

    def __init__(
        self, command: CommandConfig, stdio: ChildStdio, setup: ChildSetup | None = None, python: str | None = None
    ) -> None:
        self._command = command
        self._mark = new_mark()
        self._owner = os.getpid()
        self._child = launch(command, stdio, self._mark, setup, python)
        self._floor_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._signalled: signal.Signals | None = None
        self._sent: set[int] = set()
        self.pid = self._child.pid
        self._is_reaped = False
        self._number_is_ours = True
        self._unblamed: set[int] = set()
        self._tree: set[tuple[int, int]] = set()
        _living.add(self)
        self._tracer = -1
        self._exit: tuple[int | None, resource.struct_rusage | None] = None, None
        self._left: dict[int, procs.Process] = {}
        self._roundup: Roundup | None = None
        self.killed_by: KillTier | None = None

    @property
    def _is_inherited(self) -> bool:
        """Return whether this process is a fork of the one that started the program, and must leave it alone."""
        return os.getpid() != self._owner

    # -- before it is reaped ----------------------------------------------------------------------------------------

    def ask_to_end(self) -> None:
        """Send the stop signal to the group, and SIGCONT, because a stopped process handles no signals."""
        self._end(self._command.stop_signal)
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to the process group."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        self.killed_by = KillTier.GROUP
        self._signalled = number
        # Noted now: once it is dead, descendants that have left its session cannot be found.
        self._tree |= {(each.pid, each.started) for each in procs.descendants(self.pid, REMEMBERED)}
        self._signal_group(number)

    def send_signal(self, number: int) -> None:
        """Send the signal `number` to the program alone; only before it is reaped."""
        self._sent.add(number)
        if self._is_inherited:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def _signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process group; only before its leader is reaped, while the number is certainly ours."""
        if self._is_inherited:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: the whole group runs as another user
            os.killpg(self.pid, number)

    # -- the exit ---------------------------------------------------------------------------------------------------

    def status(self, stderr: bytes = b"") -> Exit:
        """Reap the program and return how it exited; only after it has exited.

        Args:
            stderr: The captured stderr, for an error of a launcher.

        Raises:
            IoError: The program itself never ran: a setting could not be applied before, or there was no Python to do
                so.
            ChildError: Other code took the status, or a tracer holds it.
        """
        group = self.pid
        status, used = self._reap()
        report = self._child.report()
        code = -1 if status is None else os.waitstatus_to_exitcode(status)
        self._child.reaped(code)
        if report.error_stage is not None:
            raise preparation_failure(self._command, report.error_stage, report.error_number)
        if report.is_silent and not self._was_ended_here(report, status):
            raise silent_launcher(self._command, self._child.launcher, status, stderr)
        if report.wait_status is not None and report.usage is not None:  # a supervising launcher saw the exit
            user, system, peak = report.usage
            code = os.waitstatus_to_exitcode(report.wait_status)
            return Exit(report.pid or group, code, Usage(user, system, self._max_rss(peak)))
        if status is None and self._signalled is not None:  # the signal hit the launcher
            return Exit(report.pid or group, -self._signalled, None)
        if self._tracer >= 0:
            raise ChildError(
                f"{self._command.display()}: process {group} has ended, but a process that traces it (pid "
                f"{self._tracer}) holds its exit status; end the tracer, or have it detach",
                command=self._command,
            )
        if status is None or used is None:
            raise ChildError(
                f"{self._command.display()}: its exit status was taken by other code in this process; look for "
                "waitpid(-1), or for a SIGCHLD that was set to be ignored after the start",
                command=self._command,
            )
        return Exit(group, code, Usage(used.ru_utime, used.ru_stime, self._max_rss(used.ru_maxrss)))

    def _was_ended_here(self, report: Report, status: int | None) -> bool:
        """Return whether a launcher that has reported nothing was ended by this process."""
        status = status if report.wait_status is None else report.wait_status
        if status is None:
            return self._signalled is not None or bool(self._sent)
        return (os.WIFSIGNALED(status) and os.WTERMSIG(status) in self._sent) or (
            status != 0 and self._signalled is not None
        )

    def _max_rss(self, kernel_figure: int) -> int | None:
        # A child starts with the peak of the process it was vforked from, and keeps it across exec (bun#43305;
        # setmax_mm_hiwater_rss in the kernel's fs/exec.c): only a larger figure is the program's own.
        return kernel_figure * _MAXRSS_UNIT if kernel_figure > self._floor_rss else None

    def _reap(self) -> tuple[int | None, "resource.struct_rusage | None"]:
        """Reap the child, once, and return its wait status and usage; `None` if they are lost or not available.

        They are if SIGCHLD is ignored, if other code called waitpid(-1), or if a tracer holds them.
        """
        if not self._is_reaped:
            self._is_reaped = True
            with contextlib.suppress(ChildProcessError):
                if (reaped := try_reap(self.pid)) is not None:
                    self._exit = reaped
                else:
                    self._tracer = procs.tracer_of(self.pid)
                    reap_later(self.pid)
        return self._exit

    # -- what it left -----------------------------------------------------------------------------------------------

    def left(self, *, in_grace: bool, spared: bool) -> list[procs.Process]:
        """Return the living processes that the program has left; only after it has exited.

        Args:
            in_grace: Whether its group still has a grace period: as long as the group has members, return only those.
            spared: Whether leftovers are not to be ended: beyond the group, return none.
        """
        if in_grace and not self._is_reaped:
            members = [each for each in procs.in_group_or_session(self.pid) if each.group == self.pid]
            if members:
                return members
        self._reap()
        if spared:
            return []
        # The kernel frees a pid only when no task uses it as pid, group or session, so the number cannot go to a new
        # process while a member lives. If all are gone it may, in theory already now: but then there is a leader again.
        self._number_is_ours = procs.look_at(self.pid) is None
        # What was killed may still be giving back its memory, and only then is it a zombie that can be reaped.
        return look_for(self._is_mine, since=self.pid) or [each for each in self._left.values() if each.is_dying()]

    def ask_left(self, left: list[procs.Process]) -> None:
        """Ask the processes in `left` to end: git then removes its lock, and gpg-agent its sockets."""
        self._note(left)
        for process in left:
            process.signal(self._command.stop_signal)
            process.signal(signal.SIGCONT)

    def sweep(self, left: list[procs.Process]) -> None:
        """Kill the processes in `left`. Processes found in later rounds may be multiplying, and are rounded up."""
        self._note(left)
        if self._roundup is None:
            self._roundup = Roundup(self._is_mine)
            for process in left:
                process.kill()
        else:
            self._roundup.step()
            self._note(self._roundup.left)

    def _is_mine(self, process: procs.Process) -> bool | None:
        """Return whether `process` is one that this program has left; `None` if that cannot be told now."""
        if self._number_is_ours and self.pid in (process.group, process.session):
            return True  # no process can join the session of another (setpgid(2)), so it descends from this program
        if self._left.get(process.pid, process).started != process.started:
            return False
        if process.pid in self._left or (process.pid, process.started) in self._tree:
            return True
        marked = is_marked(process.pid, self._mark.__eq__)
        if not marked:
            return marked
        if self._is_below_another(process):
            return False
        if len(_living) > 1:  # the mark may be a copy: kill the process, but do not report it as left by this program
            self._unblamed.add(process.pid)
        return True

    def _is_below_another(self, process: procs.Process) -> bool:
        """Return whether `process` descends from another program of this host, and so only has a copy of this mark."""
        others = {each.pid for each in tuple(_living) if each is not self}  # a copy, because threads change the set
        below: procs.Process | None = process
        while below is not None and below.parent > 1:
            if below.parent in others:
                return True
            below = procs.look_at(below.parent)
        return False

    def alive(self) -> list[tuple[int, str]]:
        """Return pid and name of each living process of the program, itself included."""
        everybody = {each.pid: each for each in (*self._left.values(), *(self._roundup.left if self._roundup else ()))}
        me = procs.look_at(self.pid)
        if me is not None and not self._is_reaped:
            everybody[self.pid] = me
        return [(each.pid, os.fsdecode(each.name)) for each in everybody.values() if each.lives()]

    def bury(self) -> tuple[LeakedProcess, ...]:
        """Reap the leftovers that have become children of this process, all dead by now, and return what they were."""
        for process in self._left.values():
            process.reap()
        if os.getpid() == 1:  # as PID 1, this process is also given the children of the leftovers that have died
            for dead in procs.dead_children():
                if self.pid in (dead.group, dead.session) or (dead.pid, dead.started) in self._tree:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(dead.pid, os.WNOHANG)
        blamed = [each for each in self._left.values() if each.pid not in self._unblamed]
        return tuple(LeakedProcess(each.pid, os.fsdecode(each.name)) for each in blamed)

    def _note(self, left: Iterable[procs.Process]) -> None:
        """Record the processes in `left`, which are being ended, and the kill tier that they take."""
        for process in left:
            self._left[process.pid] = process
            if process.pid in self._unblamed:
                continue
            if process.group != self.pid:
                self.killed_by = KillTier.DESCENDANTS
            elif self.killed_by is None:
                self.killed_by = KillTier.GROUP

    def close(self) -> None:
        """Close the launcher's report, and forget the program."""
        _living.discard(self)
        self._child.close()


def holders_of(descriptors: Iterable[int]) -> tuple[LeakedProcess, ...]:
    """Return the processes that still hold these pipes after the group is dead: they left it, or are not ours."""
    holders: tuple[LeakedProcess, ...] = ()
    for fd in descriptors:
        holders += pipe_holders(os.fstat(fd).st_ino)
    return tuple(dict.fromkeys(holders)) or (LeakedProcess(-1, "unknown"),)
