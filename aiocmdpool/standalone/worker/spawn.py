"""Starts programs from the worker: by posix_spawn(3), or by fork if the process needs preparing first.

The worker has one thread, so any code between `fork` and `exec` is safe; and it is small, so both are cheap.
"""

import errno
import os
import resource

from ..kernel import launcher
from ..kernel.places import Places, is_here_local
from ..kernel.processes import COOKIE, run_mark
from ..wire.messages import DETACH, Start
from .forked import become_program, needs_shim
from .streams import StreamFailure, Streams

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Iterator


class StartFailure(Exception):
    """The program could not be started.

    Attributes:
        number: The errno.
        stage: What was being done: `program`, `cwd`, `stdin`, `stdout`, `stderr`, or a setting of the launcher.
    """

    def __init__(self, number: int, stage: str) -> None:
        super().__init__(number, stage)
        self.number = number
        self.stage = stage


class Spawned:
    """A started program, and the worker's ends of its pipes (-1 for none)."""

    __slots__ = ("has_shim", "key", "pid", "report", "stderr", "stdout")

    def __init__(
        self, pid: int, streams: Streams, report: int = -1, key: object = None, has_shim: bool = False
    ) -> None:
        self.pid = pid
        self.stdout = streams.stdout_pipe
        self.stderr = streams.stderr_pipe
        self.report = report
        """Pipe on which a forked child reports its progress and failures; its `exec` closes it. -1 for none."""
        self.key = key
        """Argument for `Spawner.note_local`, once the child reports that its places are local."""
        self.has_shim = has_shim
        """Whether the pid is that of a shim, the parent of the program."""


class Spawner:
    """Starts programs, with what they share: the null device, the base environment, the directory, signals to reset.

    Args:
        reset: Signals to set to their default action for programs: those that this worker handles or ignores although
            its parent did not.
        cookie: Mark of every program, completed by the id of its request.
        environment: The environment to which requests apply their changes.
    """

    def __init__(self, reset: "list[int]", cookie: bytes, environment: "dict[bytes, bytes]") -> None:
        self._pid = os.getpid()
        self._null = os.open(os.devnull, os.O_RDWR)
        self._home = _open_home()
        self._is_away = False  # from home, to which it could not go back
        self._reset = reset
        self._cookie = cookie
        self._environment = environment
        # posix_spawn_file_actions_adddup2(3) refuses descriptors above the limit for programs; these are below it.
        self._low = [os.dup(self._null) for _ in range(3)]
        self._limits = self._raise_limit()
        self._places = Places()
        outer = environment.get(COOKIE)
        self._outer = outer + b"," if outer else b""  # the host itself may be a command of another worker

    def _raise_limit(self) -> "tuple[tuple[int, int], tuple[int, int]] | None":
        """Raise the limit on descriptors to the maximum: hundreds of programs have hundreds of pipes.

        Returns:
            The limits for programs, which get those they would have without this worker (many rely on a soft limit of
            1,024: select(2)), and those of this process; `None` if they are the same.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == hard:
            return None
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return (soft, hard), (hard, hard)

    def start(self, request: Start, number: int, handed_over: "list[int]") -> Spawned:
        """Start a program as leader of a new process group. The handed-over descriptors still belong to the caller.

        The session is that of the worker, which has no terminal. A session for each program would make it a twelfth
        slower if the kernel groups tasks by session (sched(7), "The autogroup feature").

        Paths that are not known to answer are accessed by a child, never by this process.

        Raises:
            StartFailure: The program could not be started. Nothing stays open.
        """
        if self._is_away and not request.cwd.startswith(b"/"):
            self._go_home()
        environment = self.environment_of(request, number)
        key = _places_of(request, environment)
        if self._places.are_local(key) and (self._home >= 0 or not request.cwd):
            if request.settings or request.flags & DETACH:
                return self._fork(request, environment, handed_over, key, None)
            try:
                return self._spawn(request, environment, handed_over)
            except StreamFailure as failure:
                if failure.errno != errno.ELOOP:
                    raise StartFailure(failure.errno or errno.EIO, failure.stage) from None
        return self._fork(request, environment, handed_over, key, _directories(request, environment))

    def note_local(self, key: object) -> None:
        """Remember that a child has found the places of the start `key` to be local; see `Spawned.key`."""
        self._places.note_local(key)

    def environment_of(self, request: Start, number: int) -> "dict[bytes, bytes]":
        """Return the complete environment of a program for request `number`."""
        changes = request.environment
        environment = {} if changes and not changes[0] else self._environment.copy()
        for change in changes:
            name, equals, value = change.partition(b"=")
            if equals:
                environment[name] = value
            else:
                environment.pop(name, None)
        environment[COOKIE] = self._outer + run_mark(self._cookie, number)
        return environment

    def _spawn(self, request: Start, environment: "dict[bytes, bytes]", handed_over: "list[int]") -> Spawned:
        """Start a program by posix_spawn(3), and return it."""
        streams = Streams(request, handed_over, self._null)
        stage = "cwd"
        try:
            if request.cwd:
                os.chdir(request.cwd)
            stage = "program"
            try:
                pid = self._posix_spawn(request.argv, environment, streams)
            finally:
                if request.cwd:
                    self._come_back()
        except (OSError, ValueError) as failure:
            streams.close_ours()
            code = failure.errno if isinstance(failure, OSError) else errno.EINVAL
            raise StartFailure(code or errno.EIO, stage) from None
        finally:
            streams.close_theirs()
        return Spawned(pid, streams)

    def _come_back(self) -> None:
        """Return to the worker's directory, so that none of a command is kept in use (umount(8)).

        A failure is left to the next start that has to be there: this program runs already.
        """
        try:
            os.fchdir(self._home)
            self._is_away = False
        except OSError:  # closed to this user since; the next start that has to be there says so
            self._is_away = True

    def _go_home(self) -> None:
        """Return to the worker's directory, which the next start needs.

        Raises:
            StartFailure: The directory cannot be entered any more.
        """
        try:
            os.fchdir(self._home)
        except OSError as failure:
            raise StartFailure(failure.errno or errno.EIO, "cwd") from None
        self._is_away = False

    def _posix_spawn(self, argv: "list[bytes]", environment: "dict[bytes, bytes]", streams: Streams) -> int:
        stdin, stdout, stderr = map(self._lowered, streams.fds, self._low)
        actions = [(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
        if stdin != self._null:  # 0 is that already in this process
            actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
        candidates = _candidates(argv[0], environment)
        if self._limits is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits[0])
        try:
            return launcher.attempt(
                lambda path: os.posix_spawn(
                    path, argv, environment, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=self._reset
                ),
                candidates,
            )
        finally:
            if self._limits is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, self._limits[1])
                for low in self._low:
                    os.dup2(self._null, low, inheritable=False)

    def _lowered(self, fd: int, low: int) -> int:
        """Return `fd`, or a duplicate below the programs' RLIMIT_NOFILE, because posix_spawn refuses higher ones."""
        if self._limits is None or fd < self._limits[0][0]:
            return fd
        return os.dup2(fd, low, inheritable=False)

    def _fork(
        self,
        request: Start,
        environment: "dict[bytes, bytes]",
        handed_over: "list[int]",
        key: object,
        asked: "list[bytes] | None",
    ) -> Spawned:
        """Fork a child that prepares itself and becomes the program; it reports failures through a pipe.

        This worker blocks all signals that it does not need (`hear_only`), so those to the child wait until it is the
        program, or the shim that hears them.
        """
        try:
            streams = Streams(request, handed_over, self._null, later=True)
        except StreamFailure as failure:
            raise StartFailure(failure.errno or errno.EIO, failure.stage) from None
        try:
            report, status = os.pipe()
        except OSError as failure:
            streams.close_theirs()
            streams.close_ours()
            raise StartFailure(failure.errno or errno.EIO, "program") from None
        try:
            pid = os.fork()
        except OSError as failure:
            os.close(report)
            streams.close_ours()
            raise StartFailure(failure.errno or errno.EIO, "program") from None
        finally:
            if os.getpid() == self._pid:
                os.close(status)
                streams.close_theirs()
        if pid == 0:
            limits = self._limits[0] if self._limits is not None else None
            become_program(request, environment, streams, handed_over, status, self._reset, limits, asked, self._pid)
        os.set_blocking(report, False)
        return Spawned(pid, streams, report, key, needs_shim(request))


def _open_home() -> int:
    """Open the working directory to come back to; -1 where this process should never leave it.

    Its file system may be silent when it is to come back, and hold it; or this user may not search it.
    """
    if not is_here_local():
        return -1
    try:
        return os.open(".", getattr(os, "O_PATH", os.O_RDONLY))  # it may be searched without being read
    except OSError:
        return -1


def _places_of(request: Start, environment: "dict[bytes, bytes]") -> object:
    """Return a key for the places of a start; computed for each start, so it has to be fast."""
    program, paths = request.argv[0], request.paths
    streams = tuple(map(os.path.dirname, paths)) if any(paths) else None
    return program, None if b"/" in program else environment.get(b"PATH"), request.cwd, streams


def _directories(request: Start, environment: "dict[bytes, bytes]") -> "list[bytes]":
    """Return the directories that the start of a program accesses."""
    program = request.argv[0]
    directories = [os.path.dirname(program)] if b"/" in program else launcher.search_path(environment)
    if request.cwd:
        directories = [request.cwd, *directories]
    for path in request.paths:
        if path:
            directories.append(os.path.dirname(path))
    return directories


def _candidates(program: bytes, environment: "dict[bytes, bytes]") -> "Iterator[bytes]":
    """Yield the paths to try for a program, in the order of its own PATH."""
    if b"/" in program:
        yield program
        return
    for directory in launcher.search_path(environment):
        path = os.path.join(directory, program)
        if os.path.isfile(path):
            yield path
