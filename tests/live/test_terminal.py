"""Programs that only talk to a terminal."""

import signal

import pytest
from contract.support import CommandConfig, helper, is_gone, sh

from aiocmdpool.commands.command import Stdio
from aiocmdpool.commands.errors import ConfigError, IoError
from aiocmdpool.live.terminal import WindowSize

pytestmark = pytest.mark.slow

LOOK = "import os; print(*map(os.isatty, range(3)), os.getsid(0) == os.getpid(), open('/dev/tty').isatty())"
SIZE = "import os; print(*os.get_terminal_size())"


def python(code: str, **options) -> CommandConfig:
    program, *args = helper("print_args").argv[:-1]
    return CommandConfig(program, [*args, "-c", code], **options)


async def test_all_three_streams_are_a_terminal_that_controls_the_session(backend):
    async with backend.open(python(LOOK), pty=True) as process:
        assert await process.stdout.read() == b"True True True True True\r\n"
        assert await process.wait() == 0


async def test_the_window_has_the_size_one_asks_for(backend):
    for pty, size in ((True, b"80 24\r\n"), (WindowSize(50, 132), b"132 50\r\n")):
        async with backend.open(python(SIZE), pty=pty) as process:
            assert await process.stdout.read() == size


async def test_a_new_size_is_told_to_the_program(backend):
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"
    async with backend.open(sh(script), pty=True) as process:
        await process.stdout.read_line()
        process.resize(10, 20)
        assert await process.stdout.read_line() == b"10 20\r\n"
        assert await process.wait() == 0


async def test_a_talk_with_echo_and_its_end(backend):
    script = 'stty -echo; echo ready; while read line; do echo "got $line"; done; echo "and $line"'
    async with backend.open(sh(script), pty=True) as process:
        assert await process.stdout.read_line() == b"ready\r\n"
        process.stdin.write(b"one\n")
        assert await process.stdout.read_line() == b"got one\r\n"
        process.stdin.write(b"a part")
        process.stdin.close()
        assert await process.stdout.read() == b"and a part\r\n"
        assert await process.wait() == 0


async def test_ctrl_c_is_one(backend):
    async with backend.open(sh("echo ready; exec sleep 60"), pty=True) as process:
        await process.stdout.read_line()
        process.stdin.write(b"\x03")
        assert await process.wait() == -signal.SIGINT


async def test_streams_that_lead_elsewhere_stay_there(backend, tmp_path):
    words = tmp_path / "words"
    words.write_bytes(b"words\n")
    command = sh("cat; tty <&1 >/dev/null && echo terminal >&2", stdin=words, stderr=Stdio.MERGED)
    async with backend.open(command, pty=True) as process:
        assert await process.stdout.read() == b"words\r\nterminal\r\n"
        with pytest.raises(ValueError, match="stdin"):
            process.stdin.write(b"more")


async def test_leaving_ends_what_runs_on_it(backend):
    async with backend.open(sh("echo ready; sleep 60 & wait"), pty=True) as process:
        await process.stdout.read_line()
    assert (process.returncode, is_gone(process.pid)) == (-signal.SIGTERM, True)


@pytest.mark.parametrize("size", [WindowSize(-1, 80), WindowSize(24, 70_000), WindowSize("24", 80)], ids=repr)
async def test_no_window_is_like_that(backend, size):
    with pytest.raises(ConfigError, match=r"rows|columns"):
        async with backend.open(sh("true"), pty=size):
            pass
    async with backend.open(sh("read x"), pty=True) as process:
        with pytest.raises(ConfigError, match=r"rows|columns"):
            process.resize(*size)


async def test_without_a_terminal_there_is_no_size(backend):
    async with backend.open(sh("read x")) as process:
        with pytest.raises(ValueError, match="no terminal"):
            process.resize(24, 80)
    with pytest.raises(ConfigError, match="pty"):
        async with backend.open(sh("true", stdout=Stdio.NULL, stderr=Stdio.NULL), pty=True):
            pass


async def test_what_cannot_be_started_leaves_no_terminal(backend):
    with pytest.raises(IoError):
        async with backend.open(CommandConfig("/no/such/program"), pty=True) as process:
            await process.result()
