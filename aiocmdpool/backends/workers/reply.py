"""A reply as a result, or as the error that the end of the run calls for."""

import os

import anyio.to_thread

from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import ChildError, CommandTimeout, ExecuteError, IoError, TaskCancelled
from aiocmdpool.commands.outcome import unkillable
from aiocmdpool.commands.result import CommandResult, EndReason, KillTier, LeakedProcess, Usage
from aiocmdpool.standalone.wire import messages
from aiocmdpool.system.start_failure import preparation_failure, stream_failure

READ_AT_ONCE = 1024 * 1024  # bytes; copying more than that would be felt by the loop, so a thread does it

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
    """Put large output, which came as memory files, where small output is.

    Cancellation: waits for a read in progress; the descriptors are closed in any case.
    """
    try:
        given = iter(descriptors)
        if reply.flags & messages.STDOUT_HANDED_OVER:
            reply.stdout = await _read_spool(next(given))
        if reply.flags & messages.STDERR_HANDED_OVER:
            reply.stderr = await _read_spool(next(given))
    finally:
        for fd in descriptors:
            os.close(fd)


def result_of(command: CommandConfig, reply: messages.Exit) -> CommandResult:
    """The result in an EXIT reply."""
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
    )


def failure_of(command: CommandConfig, payload: bytes) -> ExecuteError:
    """The error in a FAILED reply."""
    number, stage = messages.unpack_failed(payload)
    if stage == "cancelled":
        message = f"{command.display()}: cancelled before it started"
        return TaskCancelled(message, command=command, end_reason=EndReason.CLOSED)
    if stage in ("stdin", "stdout", "stderr"):
        path = getattr(command, stage)
        filename = str(path) if isinstance(path, os.PathLike) else None
        return stream_failure(command, OSError(number, os.strerror(number), filename))
    if stage == "output":
        message = f"{command.display()}: its output could not be kept: {os.strerror(number)}; the program was ended"
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
    """Say which place in the file system has not answered.

    Args:
        command: What was to be run.
        held: What was being done: a key of `messages.HELD`.
    """
    if held == "streams":
        paths = [
            stream for stream in (command.stdin, command.stdout, command.stderr) if isinstance(stream, os.PathLike)
        ]
        place = "a file of its streams, " + " or ".join(repr(str(path)) for path in paths)
    elif held == "cwd":
        place = f"its cwd {command.cwd!r}"
    else:
        place = f"its program {command.program!r}, or a directory of its PATH,"
    return f"{place} does not answer: the program never ran"


def timed_out_in_silence(command: CommandConfig, reply: messages.Exit, result: CommandResult) -> CommandTimeout | None:
    """Return the error for a program that timed out before it ran, because a place did not answer; or `None`."""
    held = next((name for name, bit in messages.HELD.items() if reply.flags & bit), None)
    if held is None:
        return None
    return CommandTimeout(f"{command.display()}: {silence(command, held)} ({command.timeout:g} s)", result=result)


async def _read_spool(fd: int) -> bytes:
    """The content of a memory file, copied once."""
    size = os.fstat(fd).st_size
    if size <= READ_AT_ONCE:
        return os.pread(fd, size, 0)
    return await anyio.to_thread.run_sync(_read_all, fd, size)


def _read_all(fd: int, size: int) -> bytes:
    data = os.pread(fd, size, 0)
    if len(data) == size:
        return data
    parts = [data]  # a single read ends at 2 GiB (read(2), NOTES)
    position = len(data)
    while position < size:
        parts.append(os.pread(fd, size - position, position))
        position += len(parts[-1])
    return b"".join(parts)
