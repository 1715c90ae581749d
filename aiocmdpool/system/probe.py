"""Tries a program: whether it is a Python, and one that is new enough."""

import contextlib
import os
import secrets
import select
import signal
import subprocess
import time

from aiocmdpool.standalone.kernel import processes as procs

PROBE_SAYS = 200  # bytes at most; a Python writes about 25
PROBE_FOR = 5.0  # seconds for an interpreter to prove that it is one; it takes about 0.01
OLDEST = (3, 11)
_PROBE = "import sys; print(sys.argv[1][::-1], *sys.version_info[:2])"


def what_is_wrong_with(path: str, environment: dict[str, str]) -> str:
    """Return why the program `path` is no interpreter, after a try; empty if it is one. Leaves nothing running.

    Args:
        path: Path of the program.
        environment: Its environment.

    Raises:
        OSError: It could not be started.
    """
    word = secrets.token_hex(8)
    argv = [path, "-I", "-S", "-c", _PROBE, word]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    with process:
        try:
            said = _said_by(process).decode(errors="replace").split()
        finally:
            _end(process)
    if said[:1] != [word[::-1]] or len(said) != 3:
        return f"{path} does not do what a Python does"
    version = int(said[1]), int(said[2])
    return "" if version >= OLDEST else f"{path} is Python {version[0]}.{version[1]}"


def _said_by(process: "subprocess.Popen[bytes]") -> bytes:
    """Return the output of the tried program after its exit; empty if it takes too long or writes too much."""
    assert process.stdout is not None
    give_up_at = time.monotonic() + PROBE_FOR
    poll = select.poll()  # select(2) takes no descriptors above 1,023
    poll.register(process.stdout, select.POLLIN)
    said = b""
    while poll.poll(max(0.0, give_up_at - time.monotonic()) * 1000):
        data = os.read(process.stdout.fileno(), PROBE_SAYS)
        said += data
        if len(said) > PROBE_SAYS:
            return b""
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, give_up_at - time.monotonic()))
                return said
            return b""
    return b""


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the tried program with all descendants: an application may have started anything."""
    for each in procs.descendants(process.pid, 10_000):
        each.kill()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
