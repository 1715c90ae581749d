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
from aiocmdpool.system.hunt import hunt, is_marked, pipe_holders
from aiocmdpool.system.launch import launch
from aiocmdpool.system.run_mark import new_mark
from aiocmdpool.system.start_failure import preparation_failure
from aiocmdpool.system.stdio import ChildStdio

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts kilobytes on Linux, bytes on macOS


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

    def __init__(self, command: CommandConfig, stdio: ChildStdio, setup: ChildSetup | None = None) -> None:
        self._command = command
        self._mark = new_mark()
        self._child = launch(command, stdio, self._mark, setup)
        self._floor_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._signalled: signal.Signals | None = None
        self.pid = self._child.pid
        self._left: dict[int, procs.Process] = {}
        self.killed_by: KillTier | None = None

    # -- before it is reaped ----------------------------------------------------------------------------------------

    def end(self, number: signal.Signals) -> None:
        """Ask the group to end, or force it to."""
        self.killed_by = KillTier.GROUP
        self._signalled = number
        self._signal_group(number)

    def send_signal(self, number: int) -> None:
        """Signal the program alone, before it is reaped."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def go_on(self) -> None:
        """A stopped program sees other signals only when it goes on."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the process group; called only while its leader is not reaped, so the number is still ours."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM: all of it runs as somebody else
            os.killpg(self.pid, number)

    def members(self) -> list[int]:
        """The pids of those that live in its group; its own zombie does not."""
        return [each.pid for each in procs.in_group_or_session(self.pid) if each.group == self.pid]

    # -- the exit ---------------------------------------------------------------------------------------------------

    def reap(self, *, sweep: bool) -> Exit:
        """Take the exit status, once it has exited.

        Args:
            sweep: Kill what it left in its group.

        Raises:
            IoError: It was never the program that ran: a setting could not be applied before.
            ChildError: Somebody else took the status.
        """
        group = self.pid
        try:
            _, status, used = os.wait4(group, 0)
        except ChildProcessError:  # SIGCHLD is ignored, or somebody called waitpid(-1): the status is gone
            status, used = None, None
        if sweep:
            self._sweep_group(group)
        report = self._child.report()
        code = -1 if status is None else os.waitstatus_to_exitcode(status)
        self._child.reaped(code)
        if report.error_stage is not None:
            raise preparation_failure(self._command, report.error_stage, report.error_number)
        if report.wait_status is not None and report.usage is not None:  # the supervising launcher saw the exit
            user, system, peak = report.usage
            code = os.waitstatus_to_exitcode(report.wait_status)
            return Exit(report.pid or group, code, Usage(user, system, self._max_rss(peak)))
        if status is None and self._signalled is not None:  # the signal hit the launcher, too, or before it was ready
            return Exit(report.pid or group, -self._signalled, None)
        if status is None or used is None:
            raise ChildError(
                f"{self._command.display()}: its exit status was taken by other code in this process; look for "
                "waitpid(-1), or for a SIGCHLD that was set to be ignored after the start",
                command=self._command,
            )
        return Exit(group, code, Usage(used.ru_utime, used.ru_stime, self._max_rss(used.ru_maxrss)))

    def _max_rss(self, kernel_figure: int) -> int | None:
        # A child starts with the peak of the process it was vforked from, and keeps it across exec (bun#43305;
        # setmax_mm_hiwater_rss in the kernel's fs/exec.c): only a larger figure is the program's own.
        return kernel_figure * _MAXRSS_UNIT if kernel_figure > self._floor_rss else None

    # -- what it left -----------------------------------------------------------------------------------------------

    def _sweep_group(self, group: int) -> None:
        """Kill what is left of the group after its leader.

        The number cannot be given to a new process while a member lives (the kernel frees a pid when no task uses it as
        pid, group or session). If the group is empty it can, in theory even by now: but then there is a leader again.
        """
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        if procs.look_at(group) is None:
            self._signal_group(signal.SIGSTOP)  # they may fork faster than one can look
            members = procs.in_group_or_session(group)
            self._signal_group(signal.SIGKILL)
            for process in members:  # other groups of the session
                process.kill()
            self._note(members)

    def left(self) -> list[procs.Process]:
        """What it left and has been killed."""
        return list(self._left.values())

    def kill_escapees(self) -> list[procs.Process]:
        """Kill what has left the group, by the mark in its environment; those that were there."""
        escapees = hunt(lambda process: is_marked(process.pid, self._mark.__eq__), since=self.pid)
        # A member of the group that has just been killed may still show its mark: it did not leave.
        self._note(each for each in escapees if each.pid not in self._left)
        return escapees

    def bury(self) -> tuple[LeakedProcess, ...]:
        """Reap what was left, as far as it has come to this process; it is all dead by now. Returns what it was."""
        for process in self._left.values():
            process.reap()
        return tuple(LeakedProcess(each.pid, os.fsdecode(each.name)) for each in self._left.values())

    def _note(self, left: Iterable[procs.Process]) -> None:
        """Processes were left, and have been killed."""
        for process in left:
            self._left[process.pid] = process
            if process.group != self.pid:
                self.killed_by = KillTier.DESCENDANTS
            elif self.killed_by is None:
                self.killed_by = KillTier.GROUP

    def close(self) -> None:
        """Drop what was never asked for."""
        self._child.close()


def holders_of(descriptors: Iterable[int]) -> tuple[LeakedProcess, ...]:
    """Who still holds these pipes after everything in the group is dead: it left the group, or is not ours."""
    holders: tuple[LeakedProcess, ...] = ()
    for fd in descriptors:
        holders += pipe_holders(os.fstat(fd).st_ino)
    return tuple(dict.fromkeys(holders)) or (LeakedProcess(-1, "unknown"),)
