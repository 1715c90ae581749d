"""Opens the three standard streams of a command in the worker."""

import os

from ..wire.messages import CAPTURE, DATA, DESCRIPTOR, MERGED, PATH, Start

CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
NAMES = ("stdin", "stdout", "stderr")


class StreamFailure(OSError):
    """A stream could not be opened.

    Attributes:
        stage: Which one: `stdin`, `stdout` or `stderr`.
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
            directories are known to answer, and a link that may lead elsewhere is not followed: ELOOP.

    Raises:
        StreamFailure: Something could not be opened; nothing stays open then.
    """

    __slots__ = ("_merged", "_theirs", "_unopened", "fds", "stderr_pipe", "stdout_pipe")

    def __init__(self, request: Start, handed_over: "list[int]", null: int, later: bool = False) -> None:
        self._theirs: list[int] = []
        self._unopened: list[tuple[int, bytes, int]] = []  # stream, path and flags
        self.stdout_pipe = self.stderr_pipe = -1
        self.fds = [null, null, null]
        self._merged = request.stderr == MERGED
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
                self.open_paths(os.O_NOFOLLOW)
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
        return int(next(given)) if request.stdin == DESCRIPTOR else null

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
        return int(next(given)) if target == DESCRIPTOR else null, -1

    def open_paths(self, more: int = 0) -> None:
        """Open the streams that are files.

        Args:
            more: Flags beside those of the stream.

        Raises:
            StreamFailure: One could not be.
        """
        for stream, path, flags in self._unopened:
            try:
                # O_NONBLOCK: a FIFO without a peer must not stop the worker (fifo(7)); the program gets a blocking one.
                fd = os.open(path, flags | more | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
            except OSError as failure:
                raise StreamFailure(failure, NAMES[stream]) from None
            self._theirs.append(fd)
            os.set_blocking(fd, True)
            self.fds[stream] = fd
        if self._merged:
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
