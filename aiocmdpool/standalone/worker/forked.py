"""The child between `fork` and `exec`, where a process needs preparing first, or a path may not answer.

It reports its progress on a pipe, so that a child which a file system blocks can be recognized: lines `at STAGE`,
`local` once all paths have been found on local file systems, `exec` right before the `exec`, `error STAGE ERRNO`. The
pipe closes with the `exec`, and with a death: without `exec` before, the program has not run. `Report` is the other end
of that pipe. The worker has one thread, so any Python code is safe here.
"""

import os
import resource
import sys

from ..kernel import launcher, places
from ..kernel.signals import signal
from ..wire.messages import DETACH, Start
from .shim import ShimUsage, supervise
from .streams import StreamFailure, Streams

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from ..loop.poller import Poller
    from .run import Run
    from .spawn import Spawned, Spawner


def become_program(
    request: Start,
    environment: "dict[bytes, bytes]",
    streams: Streams,
    handed_over: "list[int]",
    status: int,
    reset: "list[int]",
    limits: "tuple[int, int] | None",
    asked: "list[bytes] | None",
    worker: int,
) -> None:
    """Prepare this process and `exec` the program; never returns.

    A program that may leave daemons behind becomes a child of this process, which stays as its shim.

    Args:
        request: The request to run.
        environment: The complete environment of the program.
        streams: The standard streams of the program.
        handed_over: Descriptors that came with the request.
        status: The pipe for reports.
        reset: Signals to set to their default action.
        limits: Limits on descriptors, soft and hard; `None` for those of this process.
        asked: Directories to check for being local, together with the program; `None` if that is known.
        worker: Pid of the worker, the parent.
    """

    def start(report: int) -> None:
        _prepare(request, settings, environment, streams, handed_over, report, reset, limits, asked)

    try:
        settings = dict(os.fsdecode(item).split("=", 1) for item in request.settings)
        if "new_session" in settings:
            os.setsid()
        else:
            os.setpgid(0, 0)
        if needs_shim(request):
            if "cgroup" in settings:
                launcher.leave_control_group(settings.pop("cgroup"))
            supervise(worker, status, start)
        start(status)
    except Exception as failure:
        os.write(status, b"error cgroup %d\n" % launcher.code_of(failure))
    finally:
        os._exit(127)


def needs_shim(request: Start) -> bool:
    """Return whether a program gets a shim as parent. Not with a terminal, which a session leader has to control."""
    return (
        sys.platform == "linux"
        and bool(request.flags & DETACH)
        and not any(setting.startswith(b"terminal=") for setting in request.settings)
    )


def _prepare(
    request: Start,
    settings: "dict[str, str]",
    environment: "dict[bytes, bytes]",
    streams: Streams,
    handed_over: "list[int]",
    status: int,
    reset: "list[int]",
    limits: "tuple[int, int] | None",
    asked: "list[bytes] | None",
) -> None:
    """Prepare this process and `exec` the program; on failure report why, and exit."""
    stage = "pass_fds"
    try:
        targets = [int(fd) for fd in settings.get("pass_fds", "").split(",") if fd]
        given = handed_over[len(handed_over) - len(targets) :]
        # A child that blocks for long must not hold the pipes of others open.
        close_all_but({status, *given, *streams.fds, *handed_over})
        if request.cwd:
            os.write(status, b"at cwd\n")
            stage = "cwd"
            os.chdir(request.cwd)
        if streams.opens_paths:
            os.write(status, b"at streams\n")
            streams.open_paths()
        stage = "pass_fds"
        status = _place_descriptors(streams.fds, targets, status, given)
        for number in reset:
            signal.signal(number, signal.SIG_DFL)
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.write(status, b"at program\n")
        if asked is not None and places.all_local(asked, _program_of(request, settings, environment)):
            os.write(status, b"local\n")
        launcher.become(settings, request.argv, environment, status, launcher.EXEC)
    except StreamFailure as failure:
        os.write(status, b"error %s %d\n" % (failure.stage.encode(), failure.errno or 0))
    except Exception as failure:
        os.write(status, b"error %s %d\n" % (stage.encode(), launcher.code_of(failure)))
    finally:
        os._exit(127)


def _place_descriptors(streams: "list[int]", targets: "list[int]", status: int, given: "list[int]") -> int:
    """Move streams to 0, 1 and 2, and handed-over descriptors to their targets; return the new number of `status`."""
    status, *given = clear_of(targets, [status, *given])
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
    for target, fd in zip(targets, given):  # noqa: B905  # as many as were sent
        os.dup2(fd, target)
    return status


def clear_of(targets: "list[int]", fds: "list[int]") -> "list[int]":
    """Return duplicates of `fds` where their numbers are in `targets`, and the others as they are."""
    clear = []
    for fd in fds:
        while fd in targets:
            fd = os.dup(fd)  # the lowest free number, which may be a target, too
        clear.append(fd)
    return clear


def close_all_but(keep: "set[int]") -> None:
    """Close every descriptor above 2 that is not in `keep`."""
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _program_of(request: Start, settings: "dict[str, str]", environment: "dict[bytes, bytes]") -> bytes:
    """Return the path at which the program is found; empty if it is not."""
    name = os.fsencode(settings["executable"]) if "executable" in settings else request.argv[0]
    if b"/" in name:
        return name
    for directory in launcher.search_path(environment):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    return b""


class Report:
    """The worker's end of the pipe: what a forked child says until its `exec`, and its shim after that.

    Args:
        spawned: The child.
        spawner: Notified when the child has found its places to be local.
        poller: The poller that watches the pipe.
    """

    __slots__ = (
        "_key",
        "_poller",
        "_says_exec",
        "_spawner",
        "began",
        "exit_said",
        "fd",
        "program_pid",
        "stage",
    )

    def __init__(self, spawned: "Spawned", spawner: "Spawner", poller: "Poller") -> None:
        self.fd = spawned.report
        """The pipe; -1 once the reports have ended."""
        self._key = spawned.key
        self._spawner = spawner
        self._poller = poller
        self._says_exec = False  # whether the child has reported `exec`
        self.stage = ""
        """What the child is doing."""
        self.program_pid = 0
        """Pid of the program, as reported by the shim; 0 before."""
        self.began = False
        """Whether the shim has reported `began`."""
        self.exit_said: tuple[int, ShimUsage] | None = None
        """Wait status and usage, as reported by the shim; `None` before."""

    def read(self, run: "Run") -> bool:
        """Read what there is and note it in `run`; return whether the child has become the program or failed to.

        The reports end with its `exec`, or with the reason why there is none. The run is not kept, as it keeps this:
        output that waits for the cyclic garbage collector is memory of the worker.
        """
        while self.fd >= 0:
            try:
                said = os.read(self.fd, 4096)
            except BlockingIOError:
                return self.began
            if said:
                self._note(said, run)
            else:
                self.close()
                if not run.has_shim:
                    run.note_end_of_words(self._says_exec)
        return True

    def close(self) -> None:
        """Close the pipe."""
        self._poller.forget(self.fd)
        os.close(self.fd)
        self.fd = -1

    def _note(self, said: bytes, run: "Run") -> None:
        for line in said.splitlines():
            what, *words = line.split()
            if what == b"error":
                run.failure = int(words[1]), words[0].decode()
            elif what == b"exec":
                self._says_exec = True
            elif what == b"at":
                self.stage = words[0].decode()
            elif what == b"pid":
                self.program_pid = int(words[0])
            elif what == b"began":
                self.began = True
                run.note_end_of_words(self._says_exec)
            elif what == b"exit":
                self.exit_said = int(words[0]), ShimUsage(*words[1:])
            elif what == b"local":
                self._spawner.note_local(self._key)
