"""`WorkerProgram`: a started worker process with its connection, its stderr and its exit."""

import asyncio
import contextlib
import os
import pathlib
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import aiocmdpool.standalone
from aiocmdpool.backends.workers.connection import Connection
from aiocmdpool.backends.workers.fitness import fitness_of
from aiocmdpool.backends.workers.guardian import Guardian
from aiocmdpool.backends.workers.ledger import Ledger, Page
from aiocmdpool.backends.workers.leftovers import WorkerHandles
from aiocmdpool.backends.workers.request import current_directory
from aiocmdpool.commands.command import OutputPolicy
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.standalone.kernel import cgroup, procfs
from aiocmdpool.standalone.kernel.launcher import lc_ctype_of
from aiocmdpool.standalone.wire.frames import COOKIE_SIZE, IDLE_STATUS, PROTOCOL_VERSION
from aiocmdpool.system import interpreter
from aiocmdpool.system.capture import Capture
from aiocmdpool.system.environment import current_environment
from aiocmdpool.system.exit_watch import watch_exit
from aiocmdpool.system.launch import above_standard
from aiocmdpool.system.pipes import PipeReader
from aiocmdpool.system.reaping import reap_the_unreaped, try_reap
from aiocmdpool.system.start_failure import shortage
from aiocmdpool.system.worker_python import Start, WorkerPython

FOLDER = str(pathlib.Path(aiocmdpool.standalone.__path__[0]))
STDERR_TAIL = 8192  # bytes kept of a worker's stderr
HOLDERS = {
    "Z": "it is dead, and a process that traces it holds what is left",
    "D": "the kernel holds it (state D): it waits for a device or a file system that does not answer",
}


class WorkerProgram:
    """A started worker program. It is not reaped before `_on_exit`, so that a signal cannot hit another process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        niceness: int,
        guardian: Guardian,
        ledger: Ledger,
        idle_for: float,
        python: WorkerPython,
        received: Callable[[int, int, bytes], None],
        lost: Callable[[str], None],
        exited: Callable[[], None],
    ) -> None:
        start = _way_to_start(python)
        self.cookie = secrets.token_hex(COOKIE_SIZE // 2)
        reap_the_unreaped()
        self.fitness = fitness_of(niceness=niceness)  # what the worker inherits
        self.environment = {
            **current_environment(),
            **{os.fsencode(k): os.fsencode(v) for k, v in start.environment.items()},
        }
        self.home = current_directory()
        parent_group = cgroup.own_directory()
        self.group = cgroup.make(parent_group, secrets.token_hex(4)) if parent_group else ""
        self._exited, self._idle_for = exited, idle_for
        self._refused = ""
        self.exited = False
        self.returncode: int | None = None
        """Exit status or negative signal; `None` before, or if other code or a tracer has it."""
        popen, ends, self.page = self._launch(start, niceness, guardian, ledger)
        self.pid = popen.pid
        guardian.started(self.pid, os.fsencode(self.cookie), self.group)
        popen.returncode = 0  # it is reaped below; `Popen` must not wait for it, nor warn that nobody has
        self._is_inherited = False
        self._pidfd = _pidfd_of(self.pid)
        descriptors = [ends.requests, ends.replies, ends.errors, self._pidfd]
        self.handles = WorkerHandles(self.pid, self.cookie, self.group, descriptors, ends.passing)
        self.connection = Connection(
            loop, ends.replies, ends.requests, ends.passing, received, lost, self.handles.close
        )
        os.set_blocking(ends.errors, False)
        self._stderr = Capture(STDERR_TAIL, OutputPolicy.KEEP_TAIL)
        self._reader = PipeReader(
            loop,
            ends.errors,
            self._stderr,
            on_data=lambda: None,
            on_limit=lambda: None,
            on_end=lambda: None,
            close=self.handles.close,
        )
        self._watch = watch_exit(loop, self.pid, self._on_exit, self.handles.close)
        self.handles.add(self._watch.descriptor)

    def _launch(
        self, start: Start, niceness: int, guardian: Guardian, ledger: Ledger
    ) -> "tuple[subprocess.Popen[bytes], _Ends, Page]":
        """Start the process; return it with what connects it with this one, and its page of the ledger."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            try:
                passing, other = socket.socketpair()
                undo.callback(passing.close)
                passing.send(os.fsencode(self.cookie))
                passing_end = above_standard(other.detach())
                theirs.callback(os.close, passing_end)
                watched_by = guardian.descriptors(theirs)
                requests_end, requests = _pipe(theirs, undo)
                replies, replies_end = _pipe(undo, theirs)
                errors, errors_end = _pipe(undo, theirs)
                page = ledger.page()
                undo.callback(page.close)
                popen = subprocess.Popen(
                    start.argv + self._argv(passing_end, niceness, watched_by, page),
                    stdin=requests_end,
                    stdout=replies_end,
                    stderr=errors_end,
                    # Exactly what requests are compared with; C libraries may have set more.
                    env={**interpreter.nested(os.environ), **start.environment},
                    pass_fds=(passing_end, *watched_by, *page.descriptors, *start.descriptors),
                    start_new_session=True,
                )
            except OSError as error:
                cgroup.remove(self.group)
                raise _not_started(error) from error
            undo.pop_all()
        return popen, _Ends(passing, requests, replies, errors), page

    def _argv(self, socket_fd: int, niceness: int, watched_by: list[int], page: Page) -> list[str]:
        numbers = [
            str(socket_fd),
            str(os.getpid()),
            str(niceness),
            lc_ctype_of(dict(os.environ)),
            self.group,
            ",".join(map(str, watched_by)),
            str(page),
            str(self._idle_for),
        ]
        return [str(PROTOCOL_VERSION), *numbers]

    def close_in_fork(self) -> None:
        """Give the worker up in this forked child, because it belongs to the parent."""
        self._is_inherited = self.connection.closed = True

    def kill(self) -> None:
        """Send SIGKILL to the worker if it has not exited.

        Until `_on_exit` has reaped it the pid is its own, except in a host that ignores SIGCHLD or reaps the children
        of others: there only the pidfd is certain to mean this process.
        """
        if not self.exited and not self._is_inherited:
            try:
                if self._pidfd >= 0:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                else:
                    os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            except PermissionError:  # this process has dropped root; with its pipes closed, the worker exits by itself
                self._refused = "; this process may not signal it any more"

    def _on_exit(self) -> None:
        self.exited = True
        with contextlib.suppress(ChildProcessError):  # the host ignores SIGCHLD, or reaps children of others
            if (reaped := try_reap(self.pid)) is not None:
                self.returncode = os.waitstatus_to_exitcode(reaped[0])
            else:  # a tracer holds the zombie
                self.handles.outlived()
        self._reader.read_rest()
        self._exited()

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move the idle worker to another event loop."""
        self.connection.move(loop)
        self._reader.move(loop)
        self._watch.close()
        self._watch = watch_exit(loop, self.pid, self._on_exit, self.handles.close)
        self.handles.add(self._watch.descriptor)

    @property
    def has_left_idle(self) -> bool:
        """Return whether the worker has exited because it was idle, with every request that it began answered."""
        return self.returncode == IDLE_STATUS

    def is_runnable(self) -> bool:
        """Return whether the worker waits for nothing but CPU time."""
        state = procfs.state_of(self.pid)
        return state is not None and state[0] == "R"

    def write_off(self) -> str:
        """Treat the worker as exited although SIGKILL has not ended it; return what holds it, empty if it is dead."""
        state = procfs.state_of(self.pid)
        self._watch.close()
        self._on_exit()
        if state is None:
            return ""
        return HOLDERS.get(state[0], f"it is still there (state {state[0]})") + self._refused

    def last_words(self) -> str:
        """Return the end of the worker's stderr, for an error message."""
        text = self._stderr.result().decode(errors="replace").strip()
        return f"; its last words: {text[-1000:]}" if text else ""

    def close(self) -> None:
        """Close the descriptors. Harmless when repeated."""
        self.connection.close()
        self._reader.close()
        self._watch.close()
        if self._pidfd >= 0:
            self.handles.close(self._pidfd)
            self._pidfd = -1


class _Ends(NamedTuple):
    """This end of the socket and of each pipe between the two processes."""

    passing: socket.socket
    requests: int
    replies: int
    errors: int


def _way_to_start(python: WorkerPython) -> Start:
    try:
        return python.start(FOLDER)
    except interpreter.NoPython as error:
        raise WorkerLost(f"workers need a Python interpreter: {error}") from None
    except OSError as error:
        raise _not_started(error) from error


def _pidfd_of(pid: int) -> int:
    """Return a pidfd of the process; -1 if there is none."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # not in this kernel or sandbox, or no free descriptors
            return os.pidfd_open(pid)
    return -1


def _not_started(error: OSError) -> WorkerLost:
    cure = shortage(error.errno)
    return WorkerLost(f"a worker could not be started: {f'{error.strerror}: {cure}' if cure else error}")


def _pipe(reading: contextlib.ExitStack, writing: contextlib.ExitStack) -> tuple[int, int]:
    """Return a pipe; each end is closed by the stack given for it."""
    ends = os.pipe()
    reading.callback(os.close, ends[0])
    writing.callback(os.close, ends[1])
    return ends
