"""Opens the three standard streams of a command in the worker."""

import os

from ..wire.messages import CAPTURE, DATA, DESCRIPTOR, MERGED, PATH, Start

CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Streams:
    """What the program gets as 0, 1 and 2, and the worker's ends of its output pipes.

    Whoever makes it calls `close_theirs` after the start, failed or not, and owns `stdout_pipe` and `stderr_pipe` (-1
    where there is none).

    Raises:
        OSError: Something could not be opened; nothing stays open then but the handed-over descriptors, which remain
            those of the caller. The attribute `stage` of the error says which stream.
    """

    __slots__ = ("_theirs", "fds", "stderr_pipe", "stdout_pipe")

    def __init__(self, request: Start, handed_over: "list[int]", null: int) -> None:
        self._theirs: list[int] = []
        self.stdout_pipe = self.stderr_pipe = -1
        stage = "stdin"
        try:
            given = iter(handed_over)
            stdin = self._input(request, given, null)
            stage = "stdout"
            stdout, self.stdout_pipe = self._output(request.stdout, request.paths[1], given, null)
            stage = "stderr"
            if request.stderr == MERGED:
                stderr = stdout
            else:
                stderr, self.stderr_pipe = self._output(request.stderr, request.paths[2], given, null)
        except OSError as failure:
            self.close_theirs()
            self.close_ours()
            failure.stage = stage  # type: ignore[attr-defined]  # to name the stream in the report
            raise
        self.fds = (stdin, stdout, stderr)

    def _input(self, request: Start, given, null: int) -> int:  # type: ignore[no-untyped-def]
        if request.stdin == DATA:
            read_end, write_end = os.pipe()
            self._theirs.append(read_end)
            os.write(write_end, request.data)  # no more than PIPE_BUF, which fits into any empty pipe
            os.close(write_end)
            return read_end
        if request.stdin == PATH:
            return self._open(request.paths[0], os.O_RDONLY)
        if request.stdin == DESCRIPTOR:
            return int(next(given))
        return null

    def _output(self, target: int, path: bytes, given, null: int) -> "tuple[int, int]":  # type: ignore[no-untyped-def]
        if target == CAPTURE:
            read_end, write_end = os.pipe()
            self._theirs.append(write_end)
            os.set_blocking(read_end, False)
            return write_end, read_end
        if target == PATH:
            return self._open(path, CREATE), -1
        if target == DESCRIPTOR:
            return int(next(given)), -1
        return null, -1

    def _open(self, path: bytes, flags: int) -> int:
        # O_NONBLOCK: a FIFO without a peer must not stop the worker (fifo(7)); the program gets a blocking descriptor.
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        self._theirs.append(fd)
        os.set_blocking(fd, True)
        return fd

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
