"""Converts a worker's reply into a result, or into the error that the end of the run calls for."""

import contextlib
import errno
import functools
import io
import mmap
import os
import select
import stat
from time import monotonic, time

from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import ChildError, CommandTimeout, ExecuteError, IoError, TaskCancelled
from aiocmdpool.commands.outcome import unkillable
from aiocmdpool.commands.result import CommandResult, EndReason, KillTier, LeakedProcess, Usage
from aiocmdpool.loops.threads import in_thread
from aiocmdpool.standalone.wire import messages
from aiocmdpool.system.start_failure import directory_of, preparation_failure

READ_AT_ONCE = 1024 * 1024  # bytes; to copy more would delay the loop noticeably, so a thread does it
IN_SLICES = 8 * 1024 * 1024  # bytes; above, a copy is made in slices, each of which is freed at once
SLICE = 256 * 1024  # bytes: fits into a CPU cache
POUR_TIMEOUT = 10  # seconds within which a worker that sends output through a pipe has to send more
GIVE_BACK = 1024 * 1024  # bytes read before their pages are freed

_REASONS = {
    messages.EXITED: EndReason.EXITED,
    messages.TIMEOUT: EndReason.TIMEOUT,
    messages.IDLE_TIMEOUT: EndReason.IDLE_TIMEOUT,
    messages.OUTPUT_LIMIT: EndReason.OUTPUT_LIMIT,
    messages.CANCELLED: EndReason.CANCELLED,
    messages.CLOSED: EndReason.CLOSED,
}


_TIERS = {
    messages.NOTHING: None,
    messages.GROUP: KillTier.GROUP,
    messages.DESCENDANTS: KillTier.DESCENDANTS,
}


async def read_handed_over(reply: messages.Exit, descriptors: list[int]) -> None:
    """Read large output, which came as memory files, into the fields of `reply` where small output is.

    Cancellation: a read in progress is waited for; the descriptors are closed in any case.
    """
    try:
        if reply.flags & messages.STDOUT_HANDED_OVER:
            reply.stdout = await _read_spool(descriptors[0], reply.stdout)
            os.close(descriptors.pop(0))  # the file must not outlive its reading
        if reply.flags & messages.STDERR_HANDED_OVER:
            reply.stderr = await _read_spool(descriptors[0], reply.stderr)
    finally:
        while descriptors:
            os.close(descriptors.pop())


def is_read_at_once(reply: messages.Exit, descriptors: list[int]) -> bool:
    """Return whether `read_handed_over` reads this output without waiting for a thread."""
    return large_output(reply) <= READ_AT_ONCE and not any(map(_is_pipe, descriptors))


def large_output(reply: messages.Exit) -> int:
    """Return the bytes of output that came as memory files, before they are read."""
    size = 0
    if reply.flags & messages.STDOUT_HANDED_OVER:
        size += messages.unpack_spool(reply.stdout)[0]
    if reply.flags & messages.STDERR_HANDED_OVER:
        size += messages.unpack_spool(reply.stderr)[0]
    return size


def result_of(command: CommandConfig, reply: messages.Exit) -> CommandResult:
    """Return the result of `command` in an EXIT reply."""
    return CommandResult(
        command,
        reply.returncode,
        reply.stdout if command.stdout is Stdio.CAPTURE else None,
        reply.stderr if command.stderr is Stdio.CAPTURE else None,
        reply.pid,
        reply.duration,
        _REASONS[reply.reason],
        0.0,
        Usage(reply.user, reply.system, reply.max_rss or None),
        bool(reply.flags & (messages.STDOUT_TRUNCATED | messages.STDERR_TRUNCATED)),
        tuple(LeakedProcess(pid or -1, os.fsdecode(name)) for pid, name in reply.leaked) if reply.leaked else (),
        _TIERS[reply.tier],
        time() - (monotonic() - reply.started_at),
    )


def failure_of(command: CommandConfig, payload: bytes) -> ExecuteError:
    """Return the error of `command` in the payload of a FAILED reply."""
    number, stage = messages.unpack_failed(payload)
    if stage == "cancelled":
        message = f"{command.display()}: cancelled before it started"
        return TaskCancelled(message, command=command, end_reason=EndReason.CLOSED)
    if stage == "output":
        message = f"{command.display()}: its output could not be kept: {os.strerror(number)}; the program was ended"
        if number == errno.EFBIG:
            message += "; the limit on the size of files has changed (ulimit -f): raise it, or start a new pool"
        return IoError(message, errno=number, command=command)
    kind, _, detail = stage.partition(": ")
    if kind.startswith("unkillable"):
        alive = [line.partition(" ") for line in detail.split("\0")]
        reason, held = _REASONS[number >> 1], kind.partition(" ")[2].strip()
        error = unkillable(command, reason, [(int(pid), name) for pid, _, name in alive], returned=bool(number & 1))
        if not held:
            return error
        return ChildError(f"{error}; {silence(command, held)}", command=command, end_reason=reason)
    if kind == "worker":
        return ChildError(f"{command.display()}: its worker could not see it through: {detail}", command=command)
    return preparation_failure(command, stage, number)


def silence(command: CommandConfig, held: str) -> str:
    """Return a text that says which place in the file system has not answered.

    Args:
        command: The command that was to be run.
        held: The action in progress: a key of `messages.HELD`.
    """
    if held == "streams":
        paths = [
            stream for stream in (command.stdin, command.stdout, command.stderr) if isinstance(stream, os.PathLike)
        ]
        place = "a file of its streams, " + " or ".join(repr(str(path)) for path in paths)
    elif held == "cwd":
        place = directory_of(command)
    else:
        place = f"its program {command.program!r}, or a directory of its PATH,"
    how = "does not answer" if held != "streams" else "does not answer, or is a FIFO whose other end nobody has opened"
    return f"{place} {how}: the program never ran"


def timed_out_in_silence(command: CommandConfig, reply: messages.Exit, result: CommandResult) -> CommandTimeout | None:
    """Return the error for a program that timed out before it ran, because a path did not answer; else `None`."""
    held = next((name for name, bit in messages.HELD.items() if reply.flags & bit), None)
    if held is None:
        return None
    limit = command.timeout if reply.reason == messages.TIMEOUT else command.idle_timeout
    return CommandTimeout(f"{command.display()}: {silence(command, held)} ({limit:g} s)", result=result)


async def _read_spool(fd: int, description: bytes) -> bytes:
    """Return the content, in order, of a memory file, or of a pipe that the worker fills."""
    size, start = messages.unpack_spool(description)
    if _is_pipe(fd):
        return await in_thread(functools.partial(_drain, fd, size))
    if size > READ_AT_ONCE:
        return await in_thread(functools.partial(_copy, fd, size, start))
    return _copy(fd, size, start)


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def _drain(fd: int, size: int) -> bytes:
    """Read `size` bytes from a pipe that the worker fills.

    Raises:
        EOFError: The worker was lost before all of it had come.
    """
    buffer = io.BytesIO()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while buffer.tell() < size and poll.poll(POUR_TIMEOUT * 1000) and (data := os.read(fd, READ_AT_ONCE)):
        buffer.write(data)
    if buffer.tell() < size:
        raise EOFError(f"{buffer.tell()} of {size} bytes of its output have come")
    return buffer.getvalue()


def _copy(fd: int, size: int, start: int) -> bytes:
    if size > IN_SLICES:
        return _move(fd, size, start)
    data = os.pread(fd, size - start, start)
    return data + os.pread(fd, start, 0) if start else data


def _move(fd: int, size: int, start: int) -> bytes:
    """Copy a memory file in slices, and free the pages of each, so that nothing is held twice.

    `getvalue` makes no copy: nothing else refers to the buffer, so it becomes the bytes (Modules/_io/bytesio.c).
    """
    buffer = io.BytesIO()
    scratch = memoryview(bytearray(SLICE))
    with open(fd, "rb", buffering=0, closefd=False) as file, contextlib.closing(_Pages(fd, size)) as pages:
        for begin, end in ((start, size), (0, start)):
            file.seek(begin)
            position = kept_from = begin
            while position < end and (count := file.readinto(scratch[: end - position])):
                buffer.write(scratch[:count])
                position += count
                if position - kept_from >= GIVE_BACK:
                    kept_from = pages.give_back(kept_from, position)
    return buffer.getvalue()


class _Pages:
    """The pages of a memory file, which can be freed one by one; they stay if the system cannot do that."""

    def __init__(self, fd: int, size: int) -> None:
        self._map: mmap.mmap | None = None
        with contextlib.suppress(OSError, ValueError):  # no descriptor for the mapping; or the file is too short
            self._map = mmap.mmap(fd, size)

    def give_back(self, begin: int, end: int) -> int:
        """Free the whole pages between two offsets; return the offset where the next ones begin."""
        begin, end = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if self._map is not None and hasattr(mmap, "MADV_REMOVE"):
            try:
                self._map.madvise(mmap.MADV_REMOVE, begin, end - begin)  # punches a hole, madvise(2)
            except OSError:  # the file system cannot do that
                self.close()
        return end

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
