"""Opens the three standard streams of a command: what the program gets, and what this process keeps."""

import contextlib
import os
import pathlib
import subprocess

from aiocmdpool.commands.command import CommandConfig, Stdio


class ChildStdio:
    """Descriptors of one command, ready for `subprocess.Popen`, and the parent's ends of its pipes.

    Whoever makes it calls `close_child_ends` after the start (failed or not) and owns the parent's ends:
    `stdin_pipe`, `stdout_pipe`, `stderr_pipe` are descriptors in non-blocking mode, or -1.

    Raises:
        OSError: A file could not be opened (`filename` says which), or there are no descriptors left. Nothing stays
            open then.
    """

    __slots__ = ("_child_ends", "stderr", "stderr_pipe", "stdin", "stdin_pipe", "stdout", "stdout_pipe")

    def __init__(self, command: CommandConfig) -> None:
        self._child_ends: list[int] = []
        self.stdin_pipe = self.stdout_pipe = self.stderr_pipe = -1
        try:
            self.stdin = self._input(command.stdin)
            self.stdout, self.stdout_pipe = self._output(command.stdout)
            if command.stderr is Stdio.MERGED:
                self.stderr: int | None = subprocess.STDOUT
            else:
                self.stderr, self.stderr_pipe = self._output(command.stderr)
        except BaseException:
            self.close_child_ends()
            for fd in (self.stdin_pipe, self.stdout_pipe, self.stderr_pipe):
                if fd >= 0:
                    os.close(fd)
            raise

    def _input(self, source: bytes | pathlib.Path | Stdio | int) -> int | None:
        if isinstance(source, bytes) and source:
            read_end, self.stdin_pipe = os.pipe()  # close-on-exec, as all descriptors Python makes (PEP 446)
            self._child_ends.append(read_end)
            os.set_blocking(self.stdin_pipe, False)
            return read_end
        if isinstance(source, pathlib.Path):
            return self._open(source, os.O_RDONLY)
        if isinstance(source, int):
            return source
        return None if source is Stdio.INHERIT else subprocess.DEVNULL

    def _output(self, target: pathlib.Path | Stdio | int) -> tuple[int | None, int]:
        if target is Stdio.CAPTURE:
            read_end, write_end = os.pipe()
            self._child_ends.append(write_end)
            os.set_blocking(read_end, False)
            return write_end, read_end
        if isinstance(target, pathlib.Path):
            return self._open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), -1
        if isinstance(target, int):
            return target, -1
        return (None if target is Stdio.INHERIT else subprocess.DEVNULL), -1

    def _open(self, path: pathlib.Path, flags: int) -> int:
        # Without O_NONBLOCK a FIFO with nobody at the other end would stop the loop (fifo(7)); with it, a writer gets
        # ENXIO. The program itself expects a blocking descriptor.
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        self._child_ends.append(fd)
        os.set_blocking(fd, True)
        return fd

    def close_child_ends(self) -> None:
        """Close what belongs to the program alone, so that its exit shows as the end of the pipes."""
        for fd in self._child_ends:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._child_ends.clear()
