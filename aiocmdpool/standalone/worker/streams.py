"""`Streams`: opens the three standard streams of a command in the worker."""

import errno
import os

from ..kernel.files import CREATE, are_one_file, is_fifo, leads_to_process, open_at_once
from ..wire.messages import CAPTURE, DATA, DESCRIPTOR, MERGED, OF_HOST, OPENED, PATH, Start

NAMES = ("stdin", "stdout", "stderr")


class StreamFailure(OSError):
    """A standard stream could not be opened.

    Attributes:
        stage: Name of the stream: `stdin`, `stdout` or `stderr`; followed by `OF_HOST` if only the host can open it.
    """

    def __init__(self, failure: OSError, stage: str) -> None:
        super().__init__(failure.errno, failure.strerror)
        self.stage = stage


class Streams:
    """The program's standard streams, and the worker's ends of its output pipes.

    The caller has to call `close_theirs` after the start, failed or not, and owns `stdout_pipe` and `stderr_pipe` (-1
    for none).

    Args:
        request: The request to run.
        handed_over: Its descriptors, which remain those of the caller.
        null: The null device.
        later: Whether paths are left to `open_paths`, in a child that a file system may block. If not, their
            directories are known to answer; paths that only a child may open raise ELOOP: a link that may lead
            elsewhere, and a FIFO that has to wait for its other end.

    Raises:
        StreamFailure: A stream could not be opened; nothing stays open then.
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
        self._waits_to_write = request.timeout >= 0  # a FIFO may never be read, so never without a deadline
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
            if not later and (self._unopened or self._are_paths):
                self._open_known_paths()
        except OSError as failure:
            self.close_theirs()
            self.close_ours()
            raise failure if isinstance(failure, StreamFailure) else StreamFailure(failure, NAMES[stream]) from None

    def _input(self, request: Start, given, null: int) -> int:  # type: ignore[no-untyped-def]
        if request.stdin == DATA:
            read_end, write_end = os.pipe()
            self._theirs.append(read_end)
            os.write(write_end, request.data)  # at most PIPE_BUF, which fits into any empty pipe
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
        """Open the streams that are files, from a process that must not block."""
        for stream, path, flags in self._unopened:
            try:
                if self._waits(stream) and is_fifo(path):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                self._keep(stream, open_at_once(path, flags | os.O_NOFOLLOW))
            except OSError as failure:
                raise StreamFailure(failure, NAMES[stream]) from None
        self._opened_all()

    def open_paths(self) -> None:
        """Open the streams that are files, from a child that may block.

        Raises:
            StreamFailure: A stream could not be opened, or only the host can open it.
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
        """Use the opened file `fd` as a standard stream."""
        self._theirs.append(fd)
        self.fds[stream] = fd

    def _opened_all(self) -> None:
        """Merge stderr into stdout if they are one file, because one would overwrite the output of the other."""
        if self._merged or (self._are_paths and are_one_file(self.fds[1], self.fds[2])):
            self.fds[2] = self.fds[1]
        self._unopened.clear()

    @property
    def opens_paths(self) -> bool:
        """Return whether `open_paths` has files to open."""
        return bool(self._unopened)

    def close_theirs(self) -> None:
        """Close the descriptors that belong to the program alone."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs.clear()

    def close_ours(self) -> None:
        """Close the worker's ends of the output pipes."""
        for fd in (self.stdout_pipe, self.stderr_pipe):
            if fd >= 0:
                os.close(fd)
        self.stdout_pipe = self.stderr_pipe = -1
