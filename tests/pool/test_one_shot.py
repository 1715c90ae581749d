"""`run` and `execute`: one command, nothing to set up."""

import asyncio

import pytest
from contract.support import FOREVER, helper, is_gone, outcome, returns_before_programs_end, with_patience

from aiocmdpool import (
    CommandConfig,
    CommandTimeout,
    ConfigError,
    EndReason,
    IoError,
    NonZeroExit,
    Stdio,
    execute,
    run,
)

pytestmark = pytest.mark.slow


async def test_run_gives_the_result():
    result = await run("echo", "hello", "world")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"hello world\n", b"")
    assert result.text() == "hello world\n"
    assert (result.ok, result.end_reason, result.queued) == (True, EndReason.EXITED, 0)
    assert result.command == CommandConfig("echo", ["hello", "world"])


async def test_execute_gives_the_result():
    command = CommandConfig("cat", stdin=b"in")
    result = await execute(command)
    assert result.command is command
    assert result.stdout == b"in"


async def test_no_shell_is_involved():
    assert (await run("echo", "$HOME; *", "")).stdout == b"$HOME; * \n"


async def test_options_are_those_of_a_command(tmp_path):
    result = await run("pwd", cwd=tmp_path, env={"A": "b"}, stderr=Stdio.NULL, label="where am I")
    assert result.text().strip() == str(tmp_path)
    assert result.stderr is None
    assert result.command == CommandConfig("pwd", cwd=tmp_path, env={"A": "b"}, stderr=Stdio.NULL, label="where am I")


async def test_a_status_is_no_error_unless_asked_for():
    assert (await run("false")).returncode == 1
    with pytest.raises(NonZeroExit, match="false: exit status 1"):
        await run("false", check=True)


async def test_a_deadline_ends_the_program():
    async def attempt(seconds: float) -> CommandTimeout:
        with returns_before_programs_end(), pytest.raises(CommandTimeout) as caught:
            await run("sh", "-c", "echo so far; exec sleep 60", timeout=seconds)
        return caught.value

    error = await with_patience(attempt, lambda error: bool(error.result.stdout))
    assert error.result.stdout == b"so far\n"
    assert is_gone(error.result.pid)


async def test_a_program_that_is_not_there():
    with pytest.raises(IoError) as caught:
        await run("/no/such/program")
    assert isinstance(caught.value, FileNotFoundError) or caught.value.errno == 2


async def test_a_mistyped_option_is_named():
    with pytest.raises(ConfigError, match="timout: no such option of a command; did you mean 'timeout'"):
        await run("true", timout=1)
    with pytest.raises(ConfigError, match="timeout"):
        await run("true", timeout=-1)


async def test_cancelling_ends_the_program_first(ready):
    task = asyncio.create_task(execute(helper("sleep_after_ready", ready.path)))
    pid = int(await ready.wait())
    task.cancel()
    with returns_before_programs_end():
        assert isinstance(await outcome(task), asyncio.CancelledError)
    assert is_gone(pid)


async def test_many_at_once():
    results = await asyncio.gather(*(run("sh", "-c", f"exit {code}") for code in range(10)))
    assert [result.returncode for result in results] == list(range(10))


async def test_the_first_of_many():
    with returns_before_programs_end():
        tasks = [asyncio.create_task(run("sleep", seconds)) for seconds in (str(FOREVER), "0", str(FOREVER))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done == {tasks[1]}
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)
