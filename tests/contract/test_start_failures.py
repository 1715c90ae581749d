"""Commands that cannot start: an `IoError` with the errno, and a message that names command, cause and cure."""

import asyncio
import errno
import os
import sys
from ast import literal_eval

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, IoError

from .support import outcome, run_host, sh

pytestmark = pytest.mark.slow


async def failure(backend, command: CommandConfig, number: int, *words: str) -> IoError:
    """Check that the command fails to start in the right way."""
    with pytest.raises(IoError) as caught:
        await backend.execute(command)
    error = caught.value
    assert isinstance(error, ExecuteError)
    assert isinstance(error, OSError)
    assert error.errno == number, errno.errorcode.get(error.errno or 0)
    assert error.command is command
    assert error.result is None
    assert error.end_reason is None
    for word in words:
        assert word in str(error)
    return error


def executable(path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


async def test_a_program_that_is_not_in_path(backend):
    error = await failure(backend, CommandConfig("no-such-program-1", ["x"]), errno.ENOENT, "no-such-program-1", "PATH")
    assert error.filename == "no-such-program-1"
    assert "install" in str(error)


async def test_a_missing_program_by_its_path(backend, tmp_path):
    path = str(tmp_path / "missing")
    error = await failure(backend, CommandConfig(path, ["x"]), errno.ENOENT, path, "no such file")
    assert error.filename == path


async def test_a_directory_as_program(backend, tmp_path):
    await failure(backend, CommandConfig(tmp_path), errno.EACCES, str(tmp_path), "directory")


async def test_a_file_on_the_way_to_the_program(backend, tmp_path):
    (tmp_path / "file").write_text("")
    await failure(backend, CommandConfig(tmp_path / "file" / "program"), errno.ENOTDIR, "program")


async def test_a_program_that_is_not_executable(backend, tmp_path):
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    await failure(backend, CommandConfig(path), errno.EACCES, str(path), "not executable", "chmod +x")


async def test_a_bad_interpreter_line(backend, tmp_path):
    path = executable(tmp_path / "script", "#!/no/such/interpreter -x\n")
    await failure(backend, CommandConfig(path), errno.ENOENT, path, "interpreter", "/no/such/interpreter")


async def test_a_text_file_without_an_interpreter_line(backend, tmp_path):
    path = executable(tmp_path / "script", "echo hello\n")
    await failure(backend, CommandConfig(path), errno.ENOEXEC, path, "#!")


async def test_an_empty_executable(backend, tmp_path):
    await failure(backend, CommandConfig(executable(tmp_path / "empty", "")), errno.ENOEXEC, "empty")


async def test_a_missing_cwd(backend, tmp_path):
    cwd = str(tmp_path / "missing")
    await failure(backend, CommandConfig("true", cwd=cwd), errno.ENOENT, "true", "cwd", cwd)


async def test_a_file_as_cwd(backend, tmp_path):
    (tmp_path / "file").write_text("")
    cwd = str(tmp_path / "file")
    await failure(backend, CommandConfig("true", cwd=cwd), errno.ENOTDIR, "true", "cwd", cwd)


@pytest.mark.skipif(sys.platform != "linux", reason="one argument alone is not limited elsewhere")
async def test_one_argument_too_long(backend):
    await failure(backend, CommandConfig("true", ["x" * 131_072]), errno.E2BIG, "true", "too long", "stdin")
    assert (await backend.execute(CommandConfig("true", ["x" * 131_071]))).ok


async def test_all_arguments_together_too_long(backend):
    command = CommandConfig("true", ["x" * 100_000] * 100)
    error = await failure(backend, command, errno.E2BIG, "true", "too long")
    assert len(str(error)) < 1000


async def test_an_environment_too_long(backend):
    variables = {f"V{number}": "x" * 100_000 for number in range(100)}
    await failure(backend, CommandConfig("true", env=variables), errno.E2BIG, "environment")


async def test_a_missing_file_for_stdin(backend, tmp_path):
    path = tmp_path / "missing"
    error = await failure(backend, CommandConfig("cat", stdin=path), errno.ENOENT, "cat", "stdin", str(path))
    assert error.filename == str(path)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_missing_directory_for_output(backend, tmp_path, stream):
    path = tmp_path / "missing" / "file"
    command = sh(f"touch '{tmp_path}/ran'", **{stream: path})
    error = await failure(backend, command, errno.ENOENT, stream, str(path))
    assert error.filename == str(path)
    assert not (tmp_path / "ran").exists()


async def test_a_directory_for_output(backend, tmp_path):
    await failure(backend, CommandConfig("true", stdout=tmp_path), errno.EISDIR, "stdout", str(tmp_path))


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
async def test_a_descriptor_that_is_not_open(backend, stream):
    await failure(backend, CommandConfig("true", **{stream: 900}), errno.EBADF, "true")


async def test_a_fifo_without_a_reader_does_not_stop_the_loop(backend, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    await failure(backend, CommandConfig("true", stdout=tmp_path / "fifo"), errno.ENXIO, "stdout", "FIFO")


async def test_an_unknown_user(backend, tmp_path):
    command = sh(f"touch '{tmp_path}/ran'", user="no-such-user")
    error = await outcome(backend.execute(command))
    assert isinstance(error, IoError)
    assert isinstance(error, OSError)
    assert error.command is command
    assert "user" in str(error)
    assert "no-such-user" in str(error)
    assert not (tmp_path / "ran").exists()


async def test_an_unknown_group(backend, tmp_path):
    command = sh(f"touch '{tmp_path}/ran'", group="no-such-group")
    error = await outcome(backend.execute(command))
    assert isinstance(error, IoError)
    assert "group" in str(error)
    assert "no-such-group" in str(error)
    assert not (tmp_path / "ran").exists()


async def test_a_missing_program_with_settings_to_apply_first(backend, tmp_path):
    """The failure is the same when something else had to be done between the fork and the exec."""
    settings = {"umask": 0o77, "niceness": 1}
    await failure(backend, CommandConfig("no-such-program-2", **settings), errno.ENOENT, "no-such-program-2", "PATH")
    path = executable(tmp_path / "script", "#!/no/such/interpreter\n")
    await failure(backend, CommandConfig(path, **settings), errno.ENOENT, path, "interpreter")
    missing = str(tmp_path / "missing")
    await failure(backend, CommandConfig("true", cwd=missing, **settings), errno.ENOENT, "cwd", missing)


async def test_input_for_a_program_that_does_not_start_goes_nowhere(backend):
    await failure(backend, CommandConfig("no-such-program-3", stdin=bytes(1_000_000)), errno.ENOENT)


async def test_the_label_is_shown_with_the_cause(backend):
    error = await failure(backend, CommandConfig("no-such-program-4", label="nightly backup"), errno.ENOENT)
    assert "nightly backup" in str(error)
    assert "no-such-program-4" in str(error)


async def test_a_failure_to_start_is_an_error_with_check_and_without(backend):
    for check in (False, True):
        await failure(backend, CommandConfig("no-such-program-5", check=check), errno.ENOENT)


async def test_a_timeout_does_not_hide_a_failure_to_start(backend):
    await failure(backend, CommandConfig("no-such-program-6", timeout=0), errno.ENOENT)


async def test_a_thousand_failures_to_start_leak_no_descriptor(backend):
    """In flight together, with a pipe to be opened for every stream."""
    command = CommandConfig("/no/such/program", stdin=b"input")
    await asyncio.gather(*map(backend.execute, [command] * 20), return_exceptions=True)  # what is made on first use
    before = len(os.listdir("/dev/fd"))
    for _ in range(10):
        errors = await asyncio.gather(*map(backend.execute, [command] * 100), return_exceptions=True)
        assert all(isinstance(error, IoError) for error in errors)
    assert len(os.listdir("/dev/fd")) <= before
    assert (await backend.execute(CommandConfig("true"))).ok


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(backend_name, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    host = run_host("unwritable", backend_name, "asyncio", closed / "file")
    assert host.stdout == f"('IoError', {errno.EACCES}, True)\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_host_whose_directory_is_gone_is_told_and_loses_nothing(backend_name, loop, tmp_path):
    seen, left_open = literal_eval(run_host("gone_directory", backend_name, loop, tmp_path / "gone").stdout)
    assert (seen, left_open) == ([True, True, True, b"text\n", True, True, True], 0)


@pytest.mark.parametrize("room", [0, 2])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_without_descriptors_the_error_says_what_to_do(backend_name, loop, room):
    assert literal_eval(run_host("no_descriptors", backend_name, loop, room).stdout) == [(True, True)] * 3


async def test_one_argument_or_variable_that_is_too_long_is_named(backend):
    await failure(backend, CommandConfig("true", ["a", "x" * 140_000]), errno.E2BIG, "argument 2", "140001", "stdin")
    command = CommandConfig("true", env={"LARGE": "x" * 140_000})
    await failure(backend, command, errno.E2BIG, "variable 'LARGE'", "140007", "env={'LARGE': None}")
    await failure(backend, CommandConfig("true", ["x" * 100_000] * 100), errno.E2BIG, "101 arguments", "ulimit -s")
