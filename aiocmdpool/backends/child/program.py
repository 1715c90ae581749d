"""The program of a run and all that belongs to it: its start, signals, exit status, and what it leaves behind.

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

REMEMBERED = 10_000  # descendants of a program that is being ended
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts kilobytes on Linux, bytes on macOS


_living: "set[Program]" = set()
os.register_at_fork(after_in_child=_living.clear)


class Exit(NamedTuple):
    """What is known of an exit."""

    pid: int
    returncode: int
    usage: Usage | None


class Program:
    """A child of this process, leader of its own group, from its start to the last process it left.

    Attributes:
        pid: The child's, hence its group's.
        killed_by: What it took to end it, or what it left.

    Raises:
        IoError: It could not be started; nothing runs then.
    """

    def __init__(
        self, command: CommandConfig, stdio: ChildStdio, setup: ChildSetup | None = None, python: str | None = None
    ) -> None:
        self._command = command
        self._mark = new_mark()
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

    # -- before it is reaped ----------------------------------------------------------------------------------------

    def ask_to_end(self) -> None:
        """Ask the group to end; who is stopped sees that only when it goes on."""
        self._end(self._command.stop_signal)
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Force the group to end."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        self.killed_by = KillTier.GROUP
        self._signalled = number
        # Once it is dead, nobody can tell what was below it and has left its session.
        self._tree |= {(each.pid, each.started) for each in procs.descendants(self.pid, REMEMBERED)}
        self._signal_group(number)

    def send_signal(self, number: int) -> None:
        """Signal the program alone, before it is reaped."""
        self._sent.add(number)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the process group; called only while its leader is not reaped, so the number is still ours."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: all of it runs as somebody else
            os.killpg(self.pid, number)

    # -- the exit ---------------------------------------------------------------------------------------------------

    def status(self, stderr: bytes = b"") -> Exit:
        """Return how it ended, once it has exited.

        Args:
            stderr: What it wrote there, as far as that is known.

        Raises:
            IoError: It was never the program that ran: a setting could not be applied before, or there was no Python to
                do so.
            ChildError: Somebody else took the status, or a tracer holds it.
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
        if report.wait_status is not None and report.usage is not None:  # the supervising launcher saw the exit
            user, system, peak = report.usage
            code = os.waitstatus_to_exitcode(report.wait_status)
            return Exit(report.pid or group, code, Usage(user, system, self._max_rss(peak)))
        if status is None and self._signalled is not None:  # the signal hit the launcher, too, or before it was ready
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
        """Whether a launcher that has said nothing was ended from here before it could."""
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
        """Reap it, once; its wait status and usage, `None` where somebody else has them.

        SIGCHLD is ignored, or somebody called waitpid(-1), or a tracer holds them.
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
        """Return what lives of it besides itself, once it has exited.

        Args:
            in_grace: Look at the group alone, as long as there is anybody in it: the grace is theirs as well.
            spared: What is left is left alone.
        """
        if in_grace and not self._is_reaped:
            members = [each for each in procs.in_group_or_session(self.pid) if each.group == self.pid]
            if members:
                return members
        self._reap()
        if spared:
            return []
        # The number cannot be given to a new process while a member lives (the kernel frees a pid when no task uses it
        # as pid, group or session). If all are gone it can, in theory even by now: but then there is a leader again.
        self._number_is_ours = procs.look_at(self.pid) is None
        return look_for(self._is_mine, since=self.pid)

    def ask_left(self, left: list[procs.Process]) -> None:
        """Ask what it left by exiting to end: git removes its lock then, and gpg-agent its sockets."""
        self._note(left)
        for process in left:
            process.signal(self._command.stop_signal)
            process.signal(signal.SIGCONT)

    def sweep(self, left: list[procs.Process]) -> None:
        """Kill what is left; what is there again, or still, after that may multiply, and is rounded up."""
        self._note(left)
        if self._roundup is None:
            self._roundup = Roundup(self._is_mine)
            for process in left:
                process.kill()
        else:
            self._roundup.step()
            self._note(self._roundup.left)

    def _is_mine(self, process: procs.Process) -> bool | None:
        """Whether a process is one of those that this program has left; `None` if it cannot be told now."""
        if self._number_is_ours and self.pid in (process.group, process.session):
            return True  # nobody joins the session of another (setpgid(2)): it descends from this program
        if self._left.get(process.pid, process).started != process.started:
            return False
        if process.pid in self._left or (process.pid, process.started) in self._tree:
            return True
        marked = is_marked(process.pid, self._mark.__eq__)
        if not marked:
            return marked
        if self._is_below_another(process):
            return False
        if len(_living) > 1:  # a mark can be copied: it dies, but nobody is told that this program has left it
            self._unblamed.add(process.pid)
        return True

    def _is_below_another(self, process: procs.Process) -> bool:
        """Whether a process is below another program of this host, and so has only copied the mark of this one."""
        others = {each.pid for each in tuple(_living) if each is not self}  # threads change it
        below: procs.Process | None = process
        while below is not None and below.parent > 1:
            if below.parent in others:
                return True
            below = procs.look_at(below.parent)
        return False

    def alive(self) -> list[tuple[int, str]]:
        """Return pid and name of what lives of it, itself included."""
        everybody = {each.pid: each for each in (*self._left.values(), *(self._roundup.left if self._roundup else ()))}
        me = procs.look_at(self.pid)
        if me is not None and not self._is_reaped:
            everybody[self.pid] = me
        return [(each.pid, os.fsdecode(each.name)) for each in everybody.values() if each.lives()]

    def bury(self) -> tuple[LeakedProcess, ...]:
        """Reap what was left, as far as it has come to this process; it is all dead by now. Returns what it was."""
        for process in self._left.values():
            process.reap()
        if os.getpid() == 1:  # what it had started, and has died with it, has come to this process as well
            for dead in procs.dead_children():
                if self.pid in (dead.group, dead.session) or (dead.pid, dead.started) in self._tree:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(dead.pid, os.WNOHANG)
        blamed = [each for each in self._left.values() if each.pid not in self._unblamed]
        return tuple(LeakedProcess(each.pid, os.fsdecode(each.name)) for each in blamed)

    def _note(self, left: Iterable[procs.Process]) -> None:
        """Processes were left, and have been killed."""
        for process in left:
            self._left[process.pid] = process
            if process.pid in self._unblamed:
                continue
            if process.group != self.pid:
                self.killed_by = KillTier.DESCENDANTS
            elif self.killed_by is None:
                self.killed_by = KillTier.GROUP

    def close(self) -> None:
        """Drop what was never asked for."""
        _living.discard(self)
        self._child.close()


def holders_of(descriptors: Iterable[int]) -> tuple[LeakedProcess, ...]:
    """Who still holds these pipes after everything in the group is dead: it left the group, or is not ours."""
    holders: tuple[LeakedProcess, ...] = ()
    for fd in descriptors:
        holders += pipe_holders(os.fstat(fd).st_ino)
    return tuple(dict.fromkeys(holders)) or (LeakedProcess(-1, "unknown"),)
