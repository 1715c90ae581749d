"""Opens the three standard streams of a command in the worker."""

import errno
import os

from ..kernel.files import CREATE, are_one_file, is_fifo, leads_to_process, open_at_once
from ..wire.messages import CAPTURE, DATA, DESCRIPTOR, MERGED, OF_HOST, OPENED, PATH, Start

NAMES = ("stdin", "stdout", "stderr")


class StreamFailure(OSError):
    """A stream could not be opened.

    Attributes:
        stage: Which one: `stdin`, `stdout` or `stderr`; followed by `OF_HOST` if only the host can open it.
    """

    def __init__(self, failure: OSError, stage: str) -> None:
        super().__init__(failure.errno, failure.strerror)
        self.stage = stage


class Streams:
    """What the program gets as 0, 1 and 2, and the worker's ends of its output pipes.

    Whoever makes it calls `close_theirs` after the start, failed or not, and owns `stdout_pipe` and `stderr_pipe` (-1
    where there is none).

    Args:
        request: What to run.
        handed_over: Its descriptors, which remain those of the caller.
        null: The null device.
        later: Whether paths are left to `open_paths`, in a child that may be held by a file system. If not, their
            directories are known to answer; what only a child may open is ELOOP: a link that may lead elsewhere, and a
            FIFO that has to wait for its other end.

    Raises:
        StreamFailure: Something could not be opened; nothing stays open then.
    """

    __slots__ = (
        "_are_paths",
        "_merged",
        "_theirs",
        "_unopened",
        "_waits_to_write",
        "fds",
        "stderr_pipe",
        "stdout_pipe",
    )

    def __init__(self, request: Start, handed_over: "list[int]", null: int, later: bool = False) -> None:
        self._theirs: list[int] = []
        self._unopened: list[tuple[int, bytes, int]] = []  # stream, path and flags
        self.stdout_pipe = self.stderr_pipe = -1
        self.fds = [null, null, null]
        self._merged = request.stderr == MERGED
        self._are_paths = request.stdout in (PATH, OPENED) and request.stderr in (PATH, OPENED)
        self._waits_to_write = request.timeout >= 0  # a program may never be read, so not without a deadline
        stream = 0
        try:
            given = iter(handed_over)
            self.fds[0] = self._input(request, given, null)
            stream = 1
            self.fds[1], self.stdout_pipe = self._output(1, request.stdout, request.paths[1], given, null)
            stream = 2
            if self._merged:
                self.fds[2] = self.fds[1]
            else:
                self.fds[2], self.stderr_pipe = self._output(2, request.stderr, request.paths[2], given, null)
            if not later:
                self._open_known_paths()
        except OSError as failure:
            self.close_theirs()
            self.close_ours()
            raise failure if isinstance(failure, StreamFailure) else StreamFailure(failure, NAMES[stream]) from None

    def _input(self, request: Start, given, null: int) -> int:  # type: ignore[no-untyped-def]
        if request.stdin == DATA:
            read_end, write_end = os.pipe()
            self._theirs.append(read_end)
            os.write(write_end, request.data)  # no more than PIPE_BUF, which fits into any empty pipe
            os.close(write_end)
            return read_end
        if request.stdin == PATH:
            self._unopened.append((0, request.paths[0], os.O_RDONLY))
        return int(next(given)) if request.stdin in (DESCRIPTOR, OPENED) else null

    def _output(  # type: ignore[no-untyped-def]
        self, stream: int, target: int, path: bytes, given, null: int
    ) -> "tuple[int, int]":
        if target == CAPTURE:
            read_end, write_end = os.pipe()
            self._theirs.append(write_end)
            os.set_blocking(read_end, False)
            return write_end, read_end
        if target == PATH:
            self._unopened.append((stream, path, CREATE))
        return int(next(given)) if target in (DESCRIPTOR, OPENED) else null, -1

    def _open_known_paths(self) -> None:
        """Open the streams that are files, from a process that nothing may hold."""
        for stream, path, flags in self._unopened:
            try:
                if self._waits(stream) and is_fifo(path):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                self._keep(stream, open_at_once(path, flags | os.O_NOFOLLOW))
            except OSError as failure:
                raise StreamFailure(failure, NAMES[stream]) from None
        self._opened_all()

    def open_paths(self) -> None:
        """Open the streams that are files, from a process of its own that may be held.

        Raises:
            StreamFailure: One could not be, or only the host can do it.
        """
        for stream, path, flags in self._unopened:
            if leads_to_process(path):
                raise StreamFailure(OSError(0, ""), NAMES[stream] + OF_HOST)
            try:
                if self._waits(stream) and is_fifo(path):
                    self._keep(stream, os.open(path, flags))
                else:
                    self._keep(stream, open_at_once(path, flags))
            except OSError as failure:
                raise StreamFailure(failure, NAMES[stream]) from None
        self._opened_all()

    def _waits(self, stream: int) -> bool:
        return stream == 0 or self._waits_to_write

    def _keep(self, stream: int, fd: int) -> None:
        """Take a file that has been opened for a stream."""
        self._theirs.append(fd)
        self.fds[stream] = fd

    def _opened_all(self) -> None:
        """Opened twice, one stream would overwrite the other."""
        if self._merged or (self._are_paths and are_one_file(self.fds[1], self.fds[2])):
            self.fds[2] = self.fds[1]
        self._unopened.clear()

    @property
    def opens_paths(self) -> bool:
        """Whether `open_paths` has anything to do."""
        return bool(self._unopened)

    def close_theirs(self) -> None:
        """Close what belongs to the program alone."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs.clear()

    def close_ours(self) -> None:
        """Close the worker's ends."""
        for fd in (self.stdout_pipe, self.stderr_pipe):
            if fd >= 0:
                os.close(fd)
        self.stdout_pipe = self.stderr_pipe = -1
