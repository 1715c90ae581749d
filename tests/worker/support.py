"""Shared by the worker's tests: processes to look at, requests and replies as frames."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from contract.support import is_dead

from aiocmdpool.standalone.wire import frames, messages
from aiocmdpool.standalone.wire.messages import Exit, Start

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
PATIENCE = 20.0  # seconds after which something that should have happened is taken for broken
SOON = 15.0  # seconds within which a worker without a parent is gone with all it started; it takes about half a second


def start_payload(*argv: str | bytes, **options: Any) -> bytes:
    """A request to run a program: captured, without deadlines or limits, unless the options say otherwise."""
    fields = {
        "timeout": messages.NONE,
        "grace": 2.0,
        "leftover_grace": 0.25,
        "idle_timeout": messages.NONE,
        "max_output": -1,
        "policy": messages.FAIL,
        "stop_signal": signal.SIGTERM,
        "flags": 0,
        "stdin": messages.NULL,
        "stdout": messages.CAPTURE,
        "stderr": messages.CAPTURE,
        "descriptors": 0,
        "argv": [os.fsencode(arg) for arg in argv],
        "environment": [],
        "settings": [],
        "cwd": b"",
        "paths": [b"", b"", b""],
        "data": b"",
    }
    unknown = options.keys() - fields.keys()
    assert not unknown, unknown
    return messages.pack_start(Start(**{**fields, **options}))


def start_of(*argv: str | bytes, **options: Any) -> Start:
    return messages.unpack_start(start_payload(*argv, **options))


def exit_payload(**options: Any) -> bytes:
    """A reply that a program has exited with 0."""
    fields = {
        "reason": messages.EXITED,
        "flags": 0,
        "tier": messages.NOTHING,
        "returncode": 0,
        "pid": 4242,
        "duration": 0.5,
        "user": 0.1,
        "system": 0.2,
        "max_rss": 0,
        "stdout": b"",
        "stderr": b"",
        "leaked": [],
    }
    return messages.pack_exit(Exit(**{**fields, **options}))


def exit_frame(number: int, **options: Any) -> bytes:
    return frames.encode(frames.EXIT, number, exit_payload(**options))


@contextlib.contextmanager
def program(source: str, *args: object, **options: Any) -> Iterator[int]:
    """A Python program that has come to its line `ready()`; gives its pid. It is killed in the end."""
    read_end, write_end = os.pipe()
    text = f"import os\ndef ready():\n    os.write({write_end}, b'.')\n" + source
    argv = [sys.executable, "-I", "-S", "-c", text, *map(str, args)]
    with subprocess.Popen(argv, pass_fds=(write_end,), **options) as process:
        os.close(write_end)
        try:
            assert os.read(read_end, 1) == b".", "the program ended before it was ready"
            yield process.pid
        finally:
            os.close(read_end)
            process.kill()


def wait_until(true: Callable[[], object], what: str = "", seconds: float = PATIENCE) -> None:
    """Look again and again: for what nobody tells, such as that a process which is no child of ours is dead."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still not so after {seconds} s: {what or true}"
        time.sleep(0.002)


def assert_all_die(*pids: int, seconds: float = PATIENCE) -> None:
    """That these processes are dead soon; kill what is not, so that it does not outlive the tests."""
    deadline = time.monotonic() + seconds
    while living := [pid for pid in pids if not is_dead(pid)]:
        if time.monotonic() > deadline:
            for pid in living:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"still alive: {living}")
        time.sleep(0.002)


def children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def is_idle(pid: int) -> bool:
    """Whether it has no children, and waits; or has left."""
    return is_dead(pid) or (not children_of(pid) and psutil.Process(pid).status() == psutil.STATUS_SLEEPING)


def readable(fd: int, seconds: float = PATIENCE) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])
