"""The payloads of frames, packed and unpacked by both sides.

Strings travel NUL-separated: arguments, variables and paths cannot contain a NUL. Everything is bytes here.
Plain classes with slots, for the sake of the worker: importing `typing` would cost it 7 ms and 2 MB.
"""

import struct

# Targets of a standard stream; OPENED is a descriptor of a path that the host has opened.
NULL, CAPTURE, PATH, DESCRIPTOR, MERGED, DATA, OPENED = range(7)

# Policies at the output limit.
FAIL, KEEP_HEAD, KEEP_TAIL = range(3)

# Reasons why a run ended, as both sides number them.
EXITED, TIMEOUT, IDLE_TIMEOUT, OUTPUT_LIMIT, CANCELLED, CLOSED = range(6)

# Means that were needed to end everything, as both sides number them.
NOTHING, GROUP, DESCENDANTS = range(3)

# Bits of Start.flags.
DETACH, ANNOUNCE = 1, 2  # ANNOUNCE: report the start at once

# Bits of Exit.flags.
STDOUT_TRUNCATED, STDERR_TRUNCATED, STDOUT_HANDED_OVER, STDERR_HANDED_OVER = 1, 2, 4, 8
HANDED_OVER = STDOUT_HANDED_OVER | STDERR_HANDED_OVER

# Bits for a program that never ran: what a file system that did not answer kept it from.
HELD = {"cwd": 16, "streams": 32, "program": 64}

OF_HOST = "@host"  # after the name of a stream in FAILED: its path means another file in each process

LEFT_ALONE = 128  # bit of Exit.flags: the processes listed as leaked live, because the command has `detach`

_START = struct.Struct("!ddddqBBBBBBHIIHI")
_EXIT = struct.Struct("!BBBiIddddQQQI")
_FAILED = struct.Struct("!i")
_HELLO = struct.Struct("!HI")
_PID = struct.Struct("!I")
_SPOOL = struct.Struct("!QQ")

NONE = -1.0  # seconds: no deadline


class Start:
    """A request to run a command.

    Attributes:
        timeout, grace, leftover_grace, idle_timeout: Seconds, or `NONE`.
        max_output: Bytes, or -1 for no limit.
        policy: Policy at that limit.
        stop_signal: Number of the signal that asks the program to end.
        flags: Bits DETACH and ANNOUNCE.
        stdin, stdout, stderr: Targets of the streams.
        descriptors: Number of descriptors that come with it over the socket, in the order stdin, stdout, stderr.
        argv: The program and its arguments.
        environment: `NAME=value` to set and `NAME` to remove, against the worker's own; a first empty string means:
            start from nothing.
        settings: `name=value` for `launcher.prepare`.
        cwd: Path of the working directory; empty for the worker's own.
        paths: Paths of stdin, stdout and stderr; empty if there is none.
        data: Data for stdin.
    """

    __slots__ = (
        "argv",
        "cwd",
        "data",
        "descriptors",
        "environment",
        "flags",
        "grace",
        "idle_timeout",
        "leftover_grace",
        "max_output",
        "paths",
        "policy",
        "settings",
        "stderr",
        "stdin",
        "stdout",
        "stop_signal",
        "timeout",
    )

    def __init__(
        self,
        timeout: float,
        grace: float,
        leftover_grace: float,
        idle_timeout: float,
        max_output: int,
        policy: int,
        stop_signal: int,
        flags: int,
        stdin: int,
        stdout: int,
        stderr: int,
        descriptors: int,
        argv: "list[bytes]",
        environment: "list[bytes]",
        settings: "list[bytes]",
        cwd: bytes,
        paths: "list[bytes]",
        data: bytes,
    ) -> None:
        self.timeout = timeout
        self.grace = grace
        self.leftover_grace = leftover_grace
        self.idle_timeout = idle_timeout
        self.max_output = max_output
        self.policy = policy
        self.stop_signal = stop_signal
        self.flags = flags
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.descriptors = descriptors
        self.argv = argv
        self.environment = environment
        self.settings = settings
        self.cwd = cwd
        self.paths = paths
        self.data = data


def pack_start(request: Start) -> bytes:
    """Return the payload of a START frame."""
    strings = b"\0".join([*request.argv, *request.environment, *request.settings, request.cwd, *request.paths])
    return (
        _START.pack(
            request.timeout,
            request.grace,
            request.leftover_grace,
            request.idle_timeout,
            request.max_output,
            request.policy,
            request.stop_signal,
            request.flags,
            request.stdin,
            request.stdout,
            request.stderr,
            request.descriptors,
            len(request.argv),
            len(request.environment),
            len(request.settings),
            len(strings),
        )
        + strings
        + request.data
    )


def unpack_start(payload: bytes) -> Start:
    """Return the request in the payload of a START frame."""
    fixed = _START.unpack_from(payload)
    arguments, variables, settings, length = fixed[-4:]
    end = _START.size + length
    strings = payload[_START.size : end].split(b"\0")
    a, b = arguments, arguments + variables
    c = b + settings
    rest = strings[:a], strings[a:b], strings[b:c], strings[c], strings[c + 1 : c + 4], payload[end:]
    return Start(*(fixed[:-4] + rest))


class Exit:
    """The facts about the end of a run.

    Attributes:
        reason: Number of the end reason.
        flags: Bits, such as STDOUT_TRUNCATED.
        tier: Number of the strongest means that was needed to end everything.
        returncode: Exit status, or -N for signal N.
        pid: Process id of the program.
        duration, user, system: Seconds.
        max_rss: Bytes; 0 if it cannot be told from the worker's own peak.
        stdout, stderr: Captured bytes; for output handed over as a descriptor, its description (`pack_spool`).
        leaked: Pid and name of each process that was left behind.
        started_at: Start in seconds of the monotonic clock, which all processes share.
    """

    __slots__ = (
        "duration",
        "flags",
        "leaked",
        "max_rss",
        "pid",
        "reason",
        "returncode",
        "started_at",
        "stderr",
        "stdout",
        "system",
        "tier",
        "user",
    )

    def __init__(
        self,
        reason: int,
        flags: int,
        tier: int,
        returncode: int,
        pid: int,
        duration: float,
        user: float,
        system: float,
        max_rss: int,
        stdout: bytes,
        stderr: bytes,
        leaked: "list[tuple[int, bytes]]",
        started_at: float = 0.0,
    ) -> None:
        self.reason = reason
        self.flags = flags
        self.tier = tier
        self.returncode = returncode
        self.pid = pid
        self.duration = duration
        self.user = user
        self.system = system
        self.max_rss = max_rss
        self.stdout = stdout
        self.stderr = stderr
        self.leaked = leaked
        self.started_at = started_at


def pack_exit(result: Exit) -> bytes:
    """Return the payload of an EXIT frame."""
    leaked = b"".join(_PID.pack(pid) + name[:64] + b"\0" for pid, name in result.leaked) if result.leaked else b""
    fixed = _EXIT.pack(
        result.reason,
        result.flags,
        result.tier,
        result.returncode,
        result.pid,
        result.started_at,
        result.duration,
        result.user,
        result.system,
        result.max_rss,
        len(result.stdout),
        len(result.stderr),
        len(leaked),
    )
    return b"".join((fixed, result.stdout, result.stderr, leaked))


def unpack_exit(payload: bytes) -> Exit:
    """Return the result in the payload of an EXIT frame.

    Raises:
        ValueError, struct.error: The payload is malformed.
    """
    reason, flags, tier, code, pid, start, duration, user, system, rss, out, err, more = _EXIT.unpack_from(payload)
    if reason > CLOSED or tier > DESCENDANTS:
        raise ValueError(f"there is no reason {reason}, or no tier {tier}")
    a = _EXIT.size
    b = a + out
    c = b + err
    leaked = []
    place = c
    while place < c + more:
        end = payload.index(b"\0", place + _PID.size)
        leaked.append((_PID.unpack_from(payload, place)[0], payload[place + _PID.size : end]))
        place = end + 1
    return Exit(reason, flags, tier, code, pid, duration, user, system, rss, payload[a:b], payload[b:c], leaked, start)


def pack_failed(number: int, stage: str) -> bytes:
    """Return the payload of a FAILED frame: an errno, and the stage that failed."""
    return _FAILED.pack(number) + stage.encode()


def unpack_failed(payload: bytes) -> "tuple[int, str]":
    """Return the errno and the stage in the payload of a FAILED frame."""
    return _FAILED.unpack_from(payload)[0], payload[_FAILED.size :].decode()


def pack_hello(version: int, pid: int) -> bytes:
    """Return the payload of a HELLO frame: the protocol version and the worker's pid."""
    return _HELLO.pack(version, pid)


def unpack_hello(payload: bytes) -> "tuple[int, int]":
    """Return the protocol version and the worker's pid in the payload of a HELLO frame."""
    version, pid = _HELLO.unpack_from(payload)
    return version, pid


def pack_pid(pid: int) -> bytes:
    """Return the payload of a STARTED frame: the pid of the program."""
    return _PID.pack(pid)


def unpack_pid(payload: bytes) -> int:
    """Return the pid in the payload of a STARTED frame."""
    pid: int = _PID.unpack_from(payload)[0]
    return pid


def pack_held(numbers: "list[int]") -> bytes:
    """Return the payload of a PONG frame: the ids of the requests that were read and not answered."""
    return struct.pack(f"!{len(numbers)}I", *numbers)


def unpack_held(payload: bytes) -> "tuple[int, ...]":
    """Return the request ids in the payload of a PONG frame."""
    return struct.unpack(f"!{len(payload) // 4}I", payload)


def pack_spool(size: int, start: int) -> bytes:
    """Return the description of output in a memory file: its size in bytes, and the offset where it begins.

    From the end of the file it continues at the start.
    """
    return _SPOOL.pack(size, start)


def unpack_spool(description: bytes) -> "tuple[int, int]":
    """Return the size in bytes and the start offset in a description by `pack_spool`."""
    size, start = _SPOOL.unpack(description)
    return size, start


def handed_over(payload: bytes) -> int:
    """Return the number of descriptors that come with an EXIT payload."""
    return (payload[1] & STDOUT_HANDED_OVER != 0) + (payload[1] & STDERR_HANDED_OVER != 0)
