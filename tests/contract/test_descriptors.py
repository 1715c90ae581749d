"""Descriptors and signals: a program inherits its three streams, a clean signal state, and nothing else."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from aiocmdpool.commands.command import CommandConfig, Stdio

from .support import helper, run_host, sh

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="looks through /proc")


async def test_nothing_is_inherited_but_the_streams(backend):
    result = await backend.execute(helper("print_fds", stdin=b"input"))
    assert result.stdout == b"0 1 2\n"


async def test_inheritable_descriptors_of_the_host_stay_in_the_host(backend):
    descriptor = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(descriptor, True)
    try:
        result = await backend.execute(helper("print_fds"))
    finally:
        os.close(descriptor)
    assert result.stdout == b"0 1 2\n"


async def test_nothing_is_inherited_with_settings_to_apply_first(backend):
    result = await backend.execute(helper("print_fds", stdin=b"input", umask=0o77, niceness=1))
    assert result.stdout == b"0 1 2\n"


async def test_a_descriptor_as_stream_is_there_once(backend, tmp_path):
    with (tmp_path / "out").open("w+b") as file:
        os.set_inheritable(file.fileno(), True)
        await backend.execute(helper("print_fds", stdout=file.fileno(), stderr=Stdio.MERGED))
    assert (tmp_path / "out").read_bytes() == b"0 1 2\n"


async def test_programs_started_at_once_do_not_hold_each_others_pipes(backend, ready):
    """Else the end of one's input would wait for the exit of the other."""
    long = asyncio.ensure_future(backend.execute(helper("sleep_after_ready", ready.path)))
    cats = [asyncio.ensure_future(backend.execute(CommandConfig("cat", stdin=bytes(200_000)))) for _ in range(10)]
    async with asyncio.timeout(30):
        for result in await asyncio.gather(*cats):
            assert (len(result.stdout), result.leaked) == (200_000, ())
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_streams_are_in_blocking_mode_for_the_program(backend, tmp_path):
    """A program that meets EAGAIN on its stdout usually loses output."""
    script = "import fcntl, os\nprint([fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (0, 1, 2)])"
    command = CommandConfig(sys.executable, ["-I", "-S", "-c", script], stdin=b"input")
    assert (await backend.execute(command)).stdout == b"[0, 0, 0]\n"
    (tmp_path / "in").write_text("")
    files = {"stdin": tmp_path / "in", "stdout": tmp_path / "out", "stderr": tmp_path / "err"}
    await backend.execute(command.with_options(**files))
    assert (tmp_path / "out").read_text() == "[0, 0, 0]\n"


def signal_state(status: str) -> dict[str, int]:
    """Masks of signals out of /proc/PID/status, by name, without those that glibc keeps for its threads.

    Its posix_spawn(3) has them ignored, but nobody outside glibc can send or handle them.
    """
    internal = 1 << (32 - 1) | 1 << (33 - 1)
    lines = (line.split(":\t") for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn")))
    return {name: int(mask, 16) & ~internal for name, mask in lines}


@linux
async def test_signals_are_neither_blocked_nor_ignored(backend):
    """CPython ignores SIGPIPE and SIGXFSZ for itself, which exec(2) hands on."""
    for options in ({}, {"umask": 0o77}):
        result = await backend.execute(CommandConfig("cat", ["/proc/self/status"], **options))
        pythons_own = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
        nohup = signal_state(Path("/proc/self/status").read_text())["SigIgn"] & ~pythons_own
        assert signal_state(result.text()) == {"SigBlk": 0, "SigIgn": nohup}


async def test_sigpipe_ends_a_program_whose_reader_left(backend):
    result = await backend.execute(sh("(trap - PIPE; yes; echo $? >&2) | head -1"))
    assert result.stdout == b"y\n"
    assert result.stderr in (b"141\n", b"")


@linux
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_signals_blocked_by_the_host_are_not_blocked_in_the_program(backend_name, loop):
    host = run_host("blocked_signals", backend_name, loop)
    assert host.stdout.splitlines() == ["['SigBlk:\\t0000000000000000']", "('CommandTimeout', -15)"]


@pytest.mark.parametrize("loop", ["asyncio", "asyncio-debug", "uvloop"])
def test_descriptors_above_1024(backend_name, loop):
    host = run_host("high_descriptors", backend_name, loop)
    assert host.stdout.splitlines() == ["(0, b'in')", "('CommandTimeout',)", "(0, None)"]
