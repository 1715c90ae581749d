"""The command line as a real process, and how to hear it."""

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

import aiocmdpool

CLI = (sys.executable, "-m", "aiocmdpool", "run")
DEADLINE = 30.0  # seconds after which a command line that does nothing is taken for broken
DYING = 10.0  # seconds in which an orphan must be gone


def environment(**variables: str) -> dict[str, str]:
    package = str(Path(aiocmdpool.__path__[0]).parent)
    return {**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", **variables}


def run_cli(*args: "str | bytes | Path", stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run `aiocmdpool run` to its end."""
    argv = [*CLI, *args]
    return subprocess.run(
        argv, check=False, input=stdin, capture_output=True, timeout=DEADLINE, env=environment(), **options
    )


@contextlib.contextmanager
def running_cli(*args: "str | Path", **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """`aiocmdpool run` under way, with pipes that are not buffered; killed at the end of the block if need be."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([*CLI, *args], bufsize=0, env=environment(), **{**pipes, **options})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def read_until(fd: int, wanted: bytes) -> bytes:
    """Read from a descriptor until these bytes have come; everything read."""
    heard = b""
    deadline = time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while wanted not in heard:
            assert selector.select(deadline - time.monotonic()), f"{wanted!r} did not come, only {heard!r}"
            piece = os.read(fd, 65536)
            assert piece, f"the end came before {wanted!r}: {heard!r}"
            heard += piece
    return heard


def assert_dead(pids: Sequence[int]) -> None:
    """That these processes are dead. Others reap orphans, so a zombie counts as dead, and time is given."""
    deadline = time.monotonic() + DYING
    while living := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {living}"
        time.sleep(0.005)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def wait_for_state(pid: int, wanted: Callable[[str], bool]) -> None:
    """Look again and again: nobody tells."""
    deadline = time.monotonic() + DEADLINE
    while not wanted(psutil.Process(pid).status()):
        assert time.monotonic() < deadline, psutil.Process(pid).status()
        time.sleep(0.002)


def is_stopped(state: str) -> bool:
    return state == psutil.STATUS_STOPPED
