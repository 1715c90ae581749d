"""What a program is given: its arguments, environment and directory, byte for byte."""

import os
import pathlib
import sys

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError, IoError, NonZeroExit
from aiocmdpool.commands.run_control import ChildSetup, RunControl

from .support import helper, outcome, sh

ODD = ["", " ", "a b", "tab\there", "line\nbreak\n", "*", "$HOME", "`id`", "'\"\\", "-n", "--", "naïve €", "\x01\x7f"]


def variables(output: bytes) -> dict[bytes, bytes]:
    """What `print_env.py` printed, without the cookie by which some backends find the processes of a command."""
    found = dict(line.split(b"=", 1) for line in output.split(b"\0") if line)
    found.pop(b"AIOCMDPOOL_RUN", None)
    return found


async def test_arguments_arrive_as_they_are(backend):
    result = await backend.execute(helper("print_args", *ODD))
    assert result.stdout.split(b"\0")[:-1] == [os.fsencode(argument) for argument in ODD]


@pytest.mark.parametrize("argument", ODD)
async def test_one_odd_argument(backend, argument):
    result = await backend.execute(sh('printf "%s|" "$@"', argument))
    assert result.stdout == os.fsencode(argument) + b"|"


async def test_arguments_that_are_bytes_paths_and_no_utf8(backend):
    command = helper("print_args").with_args(
        *helper("print_args").args, b"bytes", b"\xff\xfe no utf-8", pathlib.Path("some/path"), os.fsdecode(b"\x80")
    )
    result = await backend.execute(command)
    assert result.stdout.split(b"\0")[:-1] == [b"bytes", b"\xff\xfe no utf-8", b"some/path", b"\x80"]


async def test_ten_thousand_arguments(backend):
    arguments = [str(number) for number in range(10_000)]
    result = await backend.execute(sh('echo $# "$10000"; shift 9999; echo "$1"', *arguments))
    assert result.stdout.split() == [b"10000", b"00000", b"9999"]


async def test_a_program_given_as_bytes_and_as_path(backend):
    assert (await backend.execute(CommandConfig(b"/bin/sh", ["-c", "exit 3"]))).returncode == 3
    assert (await backend.execute(CommandConfig(pathlib.Path("/bin/sh"), ["-c", "exit 4"]))).returncode == 4


async def test_a_program_whose_name_is_no_utf8(backend, tmp_path):
    path = os.fsencode(tmp_path) + b"/pro\xffgram"
    os.symlink("/bin/sh", path)
    assert (await backend.execute(CommandConfig(path, ["-c", "exit 5"]))).returncode == 5


async def test_the_program_is_looked_up_in_the_path_of_the_command(backend, tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "tool").chmod(0o755)
    found = await backend.execute(CommandConfig("tool", env={"PATH": f"/nowhere:{tmp_path}"}))
    assert found.stdout == b"found\n"
    assert isinstance(await outcome(backend.execute(CommandConfig("tool"))), IoError)
    assert isinstance(await outcome(backend.execute(CommandConfig("cat", env={"PATH": str(tmp_path)}))), IoError)


async def test_the_lookup_goes_on_past_what_cannot_be_executed(backend, tmp_path):
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / name / "tool").chmod(mode)
    result = await backend.execute(CommandConfig("tool", env={"PATH": f"{tmp_path}/first:{tmp_path}/second"}))
    assert result.stdout == b"second\n"


async def test_a_program_with_a_slash_is_relative_to_the_cwd_of_the_command(backend, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").symlink_to("/bin/sh")
    assert (await backend.execute(CommandConfig("bin/tool", ["-c", "exit 3"], cwd=tmp_path))).returncode == 3
    assert (await backend.execute(CommandConfig("./tool", ["-c", "exit 4"], cwd=tmp_path / "bin"))).returncode == 4


async def test_cwd(backend, tmp_path):
    result = await backend.execute(CommandConfig("pwd", ["-P"], cwd=tmp_path))
    assert result.text().strip() == str(tmp_path.resolve())
    result = await backend.execute(CommandConfig("pwd", ["-P"]))
    assert result.text().strip() == os.path.realpath(os.getcwd())


async def test_a_relative_cwd_is_that_of_the_moment_the_command_was_made(backend, tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path)
    command = CommandConfig("pwd", ["-P"], cwd="inside")
    monkeypatch.chdir("/")
    assert (await backend.execute(command)).text().strip() == str(tmp_path.resolve() / "inside")


async def test_the_environment_is_inherited(backend, monkeypatch):
    monkeypatch.setenv("AIOCMDPOOL_INHERITED", "yes")
    result = await backend.execute(helper("print_env"))
    assert variables(result.stdout) == dict(os.environb)


async def test_the_environment_is_that_of_the_moment_of_the_start(backend, monkeypatch):
    command = helper("print_env")
    monkeypatch.setenv("AIOCMDPOOL_LATER", "one")
    assert variables((await backend.execute(command)).stdout)[b"AIOCMDPOOL_LATER"] == b"one"
    monkeypatch.setenv("AIOCMDPOOL_LATER", "two")
    assert variables((await backend.execute(command)).stdout)[b"AIOCMDPOOL_LATER"] == b"two"
    monkeypatch.delenv("AIOCMDPOOL_LATER")
    assert b"AIOCMDPOOL_LATER" not in variables((await backend.execute(command)).stdout)


async def test_variables_are_set_replaced_and_removed(backend, monkeypatch):
    monkeypatch.setenv("AIOCMDPOOL_OLD", "old")
    monkeypatch.setenv("AIOCMDPOOL_GONE", "gone")
    changes = {"AIOCMDPOOL_NEW": "new", "AIOCMDPOOL_OLD": "changed", "AIOCMDPOOL_GONE": None, "AIOCMDPOOL_NEVER": None}
    result = await backend.execute(helper("print_env", env=changes))
    expected = {**os.environb, b"AIOCMDPOOL_NEW": b"new", b"AIOCMDPOOL_OLD": b"changed"}
    del expected[b"AIOCMDPOOL_GONE"]
    assert variables(result.stdout) == expected


async def test_an_environment_of_its_own(backend):
    result = await backend.execute(helper("print_env", env={"ONLY": "this"}, inherit_env=False))
    assert variables(result.stdout) == {b"ONLY": b"this"}


async def test_an_empty_environment(backend):
    result = await backend.execute(helper("print_env", inherit_env=False))
    assert variables(result.stdout) == {}


@pytest.mark.parametrize("value", ["", "a=b", "line\nbreak", os.fsdecode(b"\xff\xfe"), "x" * 100_000])
async def test_odd_values_of_variables(backend, value):
    result = await backend.execute(helper("print_env", env={"ODD": value}, inherit_env=False))
    assert variables(result.stdout) == {b"ODD": os.fsencode(value)}


async def test_environment_and_settings_that_need_preparation_go_together(backend, tmp_path):
    command = helper("print_env", env={"ONLY": "this"}, inherit_env=False, umask=0o27, cwd=tmp_path)
    assert variables((await backend.execute(command)).stdout) == {b"ONLY": b"this"}
    command = helper("print_args", *ODD, umask=0o27)
    result = await backend.execute(command)
    assert result.stdout.split(b"\0")[:-1] == [os.fsencode(argument) for argument in ODD]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"check": True}, NonZeroExit),
        ({"timeout": 0}, CommandTimeout),
        ({"cwd": "/no/such/directory"}, IoError),
        ({"user": "no-such-user"}, IoError),
    ],
)
async def test_secrets_are_in_no_error(backend, options, kind):
    secrets = {"env": {"PASSWORD": "s3cret-variable"}, "stdin": b"s3cret-input"}
    error = await outcome(backend.execute(sh("sleep 0.2; exit 3", **secrets, **options)))
    assert isinstance(error, kind)
    assert isinstance(error, ExecuteError)
    for text in (str(error), repr(error), repr(error.command), str(error.command), repr(error.result)):
        assert "s3cret" not in text


async def test_secrets_are_not_in_the_result(backend):
    result = await backend.execute(sh("cat >/dev/null", env={"PASSWORD": "s3cret-variable"}, stdin=b"s3cret-input"))
    assert "s3cret" not in repr(result)


async def test_secrets_are_not_on_the_command_line_of_any_process(backend, ready):
    """Others read command lines with ps(1); the environment is the owner's alone."""
    command = sh("tr '\\0' '\\n' < /proc/$$/cmdline; cat > /dev/null", env={"P": "s3cret"}, stdin=b"s3cret", umask=0o77)
    if sys.platform == "linux":
        assert b"s3cret" not in (await backend.execute(command)).stdout


@pytest.mark.parametrize("value", ["C\nRLIMIT_CPU=7\nstdin=00", "C\n", "\n", "a=b\n=c", ""])
async def test_a_variable_sets_nothing_but_itself(backend, value):
    """LC_CTYPE is told to what prepares a program: CPython may set it before that can look (PEP 538)."""
    result = await backend.execute(sh('ulimit -t; printf "%s|" "$LC_CTYPE"', niceness=1, env={"LC_CTYPE": value}))
    assert result.stdout == b"unlimited\n" + value.encode() + b"|"


@pytest.mark.parametrize("backend_name", ["process", "thread", "process_pool"])  # what wraps one decides itself
async def test_the_path_of_an_executable_sets_nothing(backend, tmp_path):
    folder = tmp_path / "x\nRLIMIT_CPU=5\n"
    folder.mkdir()
    (folder / "other").symlink_to("/bin/sh")
    control = RunControl(lambda: None, ChildSetup(executable=str(folder / "other")))
    result = await backend.execute(sh("ulimit -t"), control=control)
    assert result.stdout == b"unlimited\n"


async def test_digits_that_are_not_ascii_are_a_name(backend):
    for field in ("user", "group"):
        error = await outcome(backend.execute(sh("id -u", **{field: "\u0663"})))
        assert isinstance(error, IoError)
        assert f"there is no {field}" in str(error)
