"""How a command ended, and everything else that its result says."""

import ast
import asyncio
import os
import signal
import subprocess
import time

import pytest

from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import ChildError, NonZeroExit
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.result import CommandResult, EndReason, Usage

from .support import helper, is_gone, sh

MIB = 1024 * 1024


async def test_a_backend_is_an_executor(backend):
    assert isinstance(backend, CommandExecutor)


async def test_what_the_result_of_a_plain_command_holds(backend, backend_name):
    command = CommandConfig("echo", ["hello"], label="greeting", metadata={"request": 17})
    before = time.monotonic()
    result = await backend.execute(command)
    elapsed = time.monotonic() - before
    assert isinstance(result, CommandResult)
    assert result.command is command
    assert result.command.metadata["request"] == 17
    assert (result.returncode, result.signal, result.ok) == (0, None, True)
    assert (result.stdout, result.stderr, result.text()) == (b"hello\n", b"", "hello\n")
    assert result.end_reason is EndReason.EXITED
    assert 0 < result.duration <= elapsed
    assert (result.queued > 0.0) is backend_name.startswith("command_pool")
    assert result.truncated is False
    assert result.leaked == ()
    assert is_gone(result.pid)


async def test_pid_is_that_of_the_program(backend):
    result = await backend.execute(sh("echo $$"))
    assert result.pid == int(result.text())


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
async def test_the_exit_code_is_the_programs_own(backend, code):
    result = await backend.execute(sh(f"exit {code}"))
    assert (result.returncode, result.signal) == (code, None)
    assert result.ok is (code == 0)
    assert result.status_text() == f"exit status {code}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGINT])
async def test_a_program_killed_by_a_signal(backend, number):
    result = await backend.execute(helper("die_by_signal", int(number)))
    assert (result.returncode, result.signal) == (-number, number)
    assert result.stdout == b"last words"
    assert result.end_reason is EndReason.EXITED
    assert not result.ok


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals")
async def test_a_program_killed_by_a_signal_without_a_name(backend):
    number = signal.SIGRTMIN + 3
    result = await backend.execute(helper("die_by_signal", number))
    assert (result.returncode, result.signal) == (-number, number)
    assert result.status_text() == f"killed by signal {number}"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the program watches itself through /proc")
async def test_a_stop_is_no_exit(backend):
    result = await backend.execute(helper("stop_and_go_on"))
    assert (result.returncode, result.leaked) == (5, ())


async def test_a_shell_script_with_arguments_that_need_no_quoting(backend):
    result = await backend.execute(CommandConfig.shell('printf "%s|" "$2" "$1"; exit 7', ["a b", "$HOME; `x`"]))
    assert result.returncode == 7
    assert result.stdout == b"$HOME; `x`|a b|"


async def test_check_turns_a_nonzero_exit_into_an_error_with_the_result(backend):
    command = sh("echo out; echo first >&2; echo the reason >&2; exit 7", check=True)
    with pytest.raises(NonZeroExit) as caught:
        await backend.execute(command)
    error = caught.value
    assert isinstance(error, ChildError)
    assert error.command is command
    assert error.result is not None
    assert (error.result.returncode, error.result.stdout) == (7, b"out\n")
    assert error.result.stderr == b"first\nthe reason\n"
    assert error.end_reason is EndReason.EXITED
    assert "exit status 7" in str(error)
    assert "the reason" in str(error)


async def test_check_counts_a_signal_as_a_failure(backend):
    with pytest.raises(NonZeroExit, match="SIGTERM"):
        await backend.execute(sh("kill -TERM $$", check=True))


async def test_check_lets_a_zero_exit_pass(backend):
    assert (await backend.execute(CommandConfig("true", check=True))).ok


async def test_without_check_a_nonzero_exit_is_a_result(backend):
    assert (await backend.execute(CommandConfig("false"))).returncode == 1


async def test_errors_show_the_label_instead_of_the_command_line(backend):
    with pytest.raises(NonZeroExit, match="nightly backup") as caught:
        await backend.execute(sh("exit 3", check=True, label="nightly backup"))
    assert "/bin/sh" not in str(caught.value)


async def test_usage_is_exact_or_not_there(backend):
    result = await backend.execute(helper("burn_cpu", 0.2))
    if result.usage is not None:
        assert isinstance(result.usage, Usage)
        assert 0.2 <= result.usage.user + result.usage.system < 2.0


@pytest.mark.one_loop("uvloop")
async def test_the_peak_of_memory_is_exact_or_not_there(backend):
    result = await backend.execute(helper("allocate", 150 * MIB))
    assert result.stdout == b"allocated"
    if result.usage is not None and result.usage.max_rss is not None:
        assert 150 * MIB <= result.usage.max_rss < 250 * MIB
    small = await backend.execute(CommandConfig("true"))
    if small.usage is not None and small.usage.max_rss is not None:
        assert small.usage.max_rss < 20 * MIB


async def test_usage_of_one_command_is_not_that_of_another(backend):
    idle, _ = await asyncio.gather(
        backend.execute(CommandConfig("true")), backend.execute(helper("burn_cpu", 0.2)), return_exceptions=False
    )
    if idle.usage is not None:
        assert idle.usage.user + idle.usage.system < 0.15


async def test_duration_is_that_of_the_program(backend):
    result = await backend.execute(CommandConfig("sleep", ["0.2"]))
    assert 0.2 <= result.duration < 5


async def test_duration_is_finer_than_the_clock_of_a_loop(backend):
    """uvloop counts whole milliseconds, and `/bin/true` takes about one."""
    durations = [(await backend.execute(CommandConfig("true"))).duration for _ in range(5)]
    assert min(durations) > 0
    assert any(abs(duration * 1000 - round(duration * 1000)) > 1e-6 for duration in durations)


async def test_the_program_leads_its_own_process_group(backend):
    result = await backend.execute(helper("print_identity"))
    seen = ast.literal_eval(result.text())
    assert seen["group"] == seen["pid"] == result.pid
    assert seen["group"] != os.getpgrp()


async def test_results_are_right_with_every_stream_elsewhere(backend):
    quiet = {"stdin": Stdio.NULL, "stdout": Stdio.NULL, "stderr": Stdio.NULL}
    result = await backend.execute(sh("exit 9", **quiet))
    assert (result.returncode, result.stdout, result.stderr) == (9, None, None)


async def test_processes_that_the_host_starts_by_itself_are_left_to_it(backend):
    """Nobody takes the exit status of a child that is not theirs."""

    async def by_asyncio(code: int) -> int:
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}")
        return await process.wait()

    async def by_backend(code: int) -> int:
        return (await backend.execute(sh(f"exit {code}"))).returncode

    by_subprocess = subprocess.Popen(["sh", "-c", "exit 99"])
    codes = await asyncio.gather(*(run(code) for code in range(10) for run in (by_asyncio, by_backend)))
    assert codes == [code for code in range(10) for _ in range(2)]
    assert by_subprocess.wait() == 99


async def test_many_commands_at_once_keep_their_own_exit_codes(backend):
    results = await asyncio.gather(*(backend.execute(sh(f"exit {code}")) for code in range(40)))
    assert [result.returncode for result in results] == list(range(40))
