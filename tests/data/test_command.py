"""`CommandConfig`: validated when made, frozen, and discreet."""

import copy
import dataclasses
import inspect
import math
import os
import pathlib
import pickle
import signal
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from aiocmdpool.commands.command import (
    DEFAULT_GRACE,
    DEFAULT_MAX_OUTPUT,
    CommandConfig,
    CommandOptions,
    OutputPolicy,
    ResourceLimits,
    Stdio,
)
from aiocmdpool.commands.errors import ConfigError, ExecuteError

FIELDS = {field.name for field in dataclasses.fields(CommandConfig)}

EVERYTHING: dict[str, Any] = {
    "cwd": "/srv",
    "env": {"NAME": "value", "GONE": None},
    "inherit_env": False,
    "stdin": b"input",
    "stdout": pathlib.Path("/tmp/out"),
    "stderr": Stdio.MERGED,
    "timeout": 5.0,
    "stop_signal": signal.SIGINT,
    "grace": 1.5,
    "leftover_grace": 0.5,
    "idle_timeout": 2.0,
    "max_output": 1000,
    "output_policy": OutputPolicy.KEEP_TAIL,
    "check": True,
    "niceness": 10,
    "limits": ResourceLimits(cpu_seconds=1, address_space=2, open_files=3, file_size=4),
    "user": "nobody",
    "group": 100,
    "umask": 0o22,
    "no_new_privs": True,
    "detach": True,
    "encoding": "latin-1",
    "label": "name",
    "metadata": {"key": [1, 2]},
    "idempotent": True,
}


def everything(**changes: Any) -> CommandConfig:
    return CommandConfig("program", ["a", "b"], **{**EVERYTHING, **changes})


def test_the_example_above_has_every_field():
    assert set(EVERYTHING) == FIELDS - {"program", "args"}


def test_the_typed_options_are_the_keyword_fields():
    assert set(CommandOptions.__annotations__) == FIELDS - {"program", "args"}
    assert CommandOptions.__total__ is False


def test_all_but_program_and_args_is_by_keyword_only():
    by_position = [field.name for field in dataclasses.fields(CommandConfig) if not field.kw_only]
    assert by_position == ["program", "args"]
    with pytest.raises(TypeError):
        CommandConfig("program", [], "/srv")


def test_every_field_has_a_line_of_documentation():
    file = sys.modules[CommandConfig.with_options.__module__]
    _, _, source = inspect.getsource(file).partition("class CommandConfig")
    for name in FIELDS:
        _, _, after = source.partition(f"\n    {name}: ")
        assert after.split("\n", 2)[1].strip().startswith('"""'), name


def test_the_defaults():
    command = CommandConfig("true")
    assert (command.program, command.args, command.argv) == ("true", (), ["true"])
    assert (command.cwd, dict(command.env), command.inherit_env) == (None, {}, True)
    assert (command.stdin, command.stdout, command.stderr) == (Stdio.NULL, Stdio.CAPTURE, Stdio.CAPTURE)
    assert (command.timeout, command.grace, command.idle_timeout) == (None, DEFAULT_GRACE, None)
    assert (command.max_output, command.output_policy, command.check) == (DEFAULT_MAX_OUTPUT, OutputPolicy.FAIL, False)
    assert (command.niceness, command.limits, command.umask) == (0, ResourceLimits(), None)
    assert (command.user, command.group, command.encoding) == (None, None, "utf-8")
    assert (command.label, dict(command.metadata), command.idempotent) == (None, {}, False)


def test_every_value_is_kept():
    command = everything()
    for name, value in EVERYTHING.items():
        assert getattr(command, name) == value


def test_what_programs_and_arguments_may_be():
    command = CommandConfig(b"/bin/pro\xffgram", (part for part in ["text", b"\xfe", pathlib.Path("a/b"), ""]))
    assert command.program == os.fsdecode(b"/bin/pro\xffgram")
    assert command.args == ("text", os.fsdecode(b"\xfe"), "a/b", "")
    assert list(map(os.fsencode, command.argv)) == [b"/bin/pro\xffgram", b"text", b"\xfe", b"a/b", b""]


def test_a_relative_cwd_becomes_absolute_at_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert CommandConfig("true", cwd="inside").cwd == os.path.join(os.getcwd(), "inside")
    assert CommandConfig("true", cwd=b"inside").cwd == os.path.join(os.getcwd(), "inside")
    assert CommandConfig("true", cwd=pathlib.Path()).cwd == os.getcwd()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_relative_files_become_absolute_at_once(monkeypatch, tmp_path, stream):
    monkeypatch.chdir(tmp_path)
    expected = pathlib.Path(os.getcwd(), "file")
    assert getattr(CommandConfig("true", **{stream: "file"}), stream) == expected
    assert getattr(CommandConfig("true", **{stream: pathlib.Path("file")}), stream) == expected
    assert CommandConfig("true", stdin=pathlib.Path("file")).stdin == expected


@pytest.mark.parametrize("data", [b"data", bytearray(b"data"), memoryview(b"data")])
def test_stdin_data_becomes_bytes(data):
    stdin = CommandConfig("true", stdin=data).stdin
    assert (stdin, type(stdin)) == (b"data", bytes)


def test_a_descriptor_is_a_stream():
    command = CommandConfig("true", stdin=0, stdout=1, stderr=2)
    assert (command.stdin, command.stdout, command.stderr) == (0, 1, 2)


def test_whole_seconds_become_floats():
    command = CommandConfig("true", timeout=5, grace=0, idle_timeout=1)
    assert [type(value) for value in (command.timeout, command.grace, command.idle_timeout)] == [float] * 3


def test_none_for_a_mapping_is_an_empty_one():
    command = CommandConfig("true", env=None, metadata=None)
    assert (dict(command.env), dict(command.metadata)) == ({}, {})
    assert command == CommandConfig("true")


WRONG: list[tuple[str, Any, str]] = [
    ("program", "", "empty"),
    ("program", None, "NoneType"),
    ("program", 7, "str()"),
    ("program", "a\0b", "NUL"),
    ("program", ["ls"], "list"),
    ("args", "-la", "give a list"),
    ("args", b"-la", "give a list"),
    ("args", pathlib.Path("x"), "give a list"),
    ("args", 7, "int"),
    ("args", None, "NoneType"),
    ("args[1]", ["a", 7], "str()"),
    ("args[1]", ["a", None], "NoneType"),
    ("args[0]", ["a\0b"], "NUL"),
    ("args[0]", ["\ud800"], "encoded"),
    ("cwd", "", "None"),
    ("cwd", 7, "int"),
    ("cwd", "a\0b", "NUL"),
    ("env", [("A", "b")], "mapping"),
    ("env", {"": "x"}, "cannot name"),
    ("env", {"A=B": "x"}, "cannot name"),
    ("env", {"A": 7}, "'A'"),
    ("env", {"A": "x\0y"}, "'A'"),
    ("env name", {7: "x"}, "int"),
    ("env name", {"A\0": "x"}, "NUL"),
    ("inherit_env", 1, "bool"),
    ("inherit_env", None, "bool"),
    ("stdin", "text", "text.encode()"),
    ("stdin", Stdio.CAPTURE, "Stdio.CAPTURE"),
    ("stdin", Stdio.MERGED, "Stdio.MERGED"),
    ("stdin", -1, "-1"),
    ("stdin", True, "bool"),
    ("stdin", None, "NoneType"),
    ("stdout", Stdio.MERGED, "Stdio.MERGED"),
    ("stdout", "", "empty"),
    ("stdout", -1, "-1"),
    ("stdout", None, "NoneType"),
    ("stdout", 1.5, "float"),
    ("stdout", "a\0b", "NUL"),
    ("stderr", "", "empty"),
    ("stderr", -3, "-3"),
    ("stderr", False, "bool"),
    ("timeout", -1, "-1"),
    ("timeout", math.inf, "None"),
    ("timeout", math.nan, "nan"),
    ("timeout", "5", "str"),
    ("timeout", True, "bool"),
    ("grace", -0.1, "-0.1"),
    ("leftover_grace", None, "NoneType"),
    ("grace", None, "NoneType"),
    ("grace", math.inf, "inf"),
    ("idle_timeout", -1, "-1"),
    ("idle_timeout", "1", "str"),
    ("max_output", -1, "-1"),
    ("max_output", 1.5, "1.5"),
    ("max_output", True, "True"),
    ("output_policy", "keep_head", "KEEP_HEAD"),
    ("output_policy", None, "FAIL"),
    ("check", "yes", "bool"),
    ("niceness", 41, "40"),
    ("niceness", -41, "-40"),
    ("niceness", 1.0, "1.0"),
    ("niceness", None, "None"),
    ("limits", {"memory": 1}, "ResourceLimits"),
    ("limits", None, "ResourceLimits"),
    ("user", -1, "-1"),
    ("user", "", "name"),
    ("user", b"root", "name"),
    ("user", True, "True"),
    ("user", "a\0b", "NUL"),
    ("group", -1, "-1"),
    ("group", 1.5, "1.5"),
    ("umask", -1, "-1"),
    ("umask", 0o1000, "512"),
    ("umask", "022", "022"),
    ("stop_signal", 0, "0"),
    ("stop_signal", 99, "99"),
    ("stop_signal", True, "True"),
    ("stop_signal", "SIGINT", "signal.SIGINT"),
    ("stop_signal", signal.SIGSTOP, "does not end"),
    ("stop_signal", signal.SIGCHLD, "SIGCHLD"),
    ("no_new_privs", 1, "bool"),
    ("detach", None, "bool"),
    ("encoding", "no-such-encoding", "no-such-encoding"),
    ("encoding", None, "None"),
    ("encoding", 7, "7"),
    ("label", 7, "int"),
    ("metadata", [1], "mapping"),
    ("idempotent", 1, "bool"),
]


@pytest.mark.parametrize(("field", "value", "shown"), WRONG, ids=lambda value: repr(value)[:40])
def test_a_wrong_value_is_an_error_that_names_field_and_value(field, value, shown):
    name = field.split("[")[0].split(" ")[0]
    settings = {"program": "true", name: value}
    with pytest.raises(ConfigError) as caught:
        CommandConfig(**settings)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ExecuteError)
    assert caught.value.field == field
    assert field in str(caught.value)
    assert shown in str(caught.value)


def test_every_field_has_a_wrong_value_above():
    assert {field.split("[")[0].split(" ")[0] for field, _, _ in WRONG} == FIELDS


@pytest.mark.parametrize("name", ["cpu_seconds", "address_space", "open_files", "file_size"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "1"])
def test_a_wrong_limit_names_itself(name, value):
    with pytest.raises(ConfigError, match=rf"limits\.{name}") as caught:
        ResourceLimits(**{name: value})
    assert caught.value.field == f"limits.{name}"
    assert repr(value) in str(caught.value)


def test_the_limit_that_was_called_memory_is_taken_and_says_what_it_is_called_now():
    with pytest.warns(FutureWarning, match="is called address_space") as caught:
        assert ResourceLimits(memory=1) == ResourceLimits(address_space=1)
    assert caught[0].filename == __file__
    with pytest.raises(ConfigError, match=r"limits\.memory: is the former name of address_space"):
        ResourceLimits(memory=1, address_space=1)
    with pytest.raises(ConfigError, match="open_file: no such option of ResourceLimits; did you mean 'open_files'"):
        ResourceLimits(open_file=1)
    assert "memory" not in {field.name for field in dataclasses.fields(ResourceLimits)}
    assert "memory" not in inspect.signature(ResourceLimits).parameters


def test_a_mistyped_option_is_answered_with_the_right_one():
    with pytest.raises(ConfigError, match=r"timout: no such option.*did you mean 'timeout'") as caught:
        CommandConfig("true", timout=5)
    assert caught.value.field == "timout"
    with pytest.raises(ConfigError, match="idle_timeout"):
        CommandConfig("true").with_options(idletimeout=5)
    with pytest.raises(ConfigError, match="there are: program, args, cwd"):
        CommandConfig("true", xyzzy=5)


def test_a_wrong_variable_does_not_show_its_value():
    with pytest.raises(ConfigError) as caught:
        CommandConfig("true", env={"PASSWORD": "s3cret\0"})
    assert "PASSWORD" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", [str, bytes, pathlib.Path])
def test_a_wrong_input_does_not_show_itself(kind):
    with pytest.raises(ConfigError) as caught:
        CommandConfig("true", stdin="s3cret")
    assert "s3cret" not in str(caught.value)


def test_a_command_is_frozen():
    command = everything()
    for name in FIELDS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(command, name, None)
    with pytest.raises((AttributeError, TypeError)):
        command.other = 1
    for mapping in (command.env, command.metadata):
        with pytest.raises(TypeError):
            mapping["new"] = "value"


def test_a_command_does_not_follow_the_mapping_it_was_made_of():
    env, metadata = {"A": "1"}, {"key": 1}
    command = CommandConfig("true", env=env, metadata=metadata)
    env["A"] = metadata["key"] = "changed"
    assert (dict(command.env), dict(command.metadata)) == ({"A": "1"}, {"key": 1})


@pytest.mark.parametrize("name", sorted(FIELDS - {"metadata"}))
def test_commands_are_equal_when_all_but_metadata_is(name):
    changed = {"program": "other", "args": ["c"], **dict.fromkeys(("cwd", "user", "group", "umask", "label"))}
    changed |= {"env": {}, "inherit_env": True, "stdin": Stdio.NULL, "stdout": Stdio.NULL, "stderr": Stdio.NULL}
    changed |= {"timeout": None, "grace": 0, "leftover_grace": 0, "idle_timeout": None, "max_output": None}
    changed |= {"encoding": "utf-8"}
    changed |= {"output_policy": OutputPolicy.FAIL, "check": False, "niceness": 0, "limits": ResourceLimits()}
    changed |= {"idempotent": False, "stop_signal": signal.SIGTERM, "no_new_privs": False, "detach": False}
    assert everything() != everything().with_options(**{name: changed[name]})
    assert everything() == everything() == everything(metadata={"other": 1})


def test_equal_commands_have_equal_hashes():
    assert hash(everything()) == hash(everything(metadata={}))
    assert len({everything(), everything(), CommandConfig("true"), CommandConfig("true")}) == 2
    unhashable_metadata = CommandConfig("true", metadata={"key": []})
    assert hash(unhashable_metadata) == hash(CommandConfig("true"))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("command", [CommandConfig("true"), everything()], ids=["plain", "everything"])
def test_a_command_survives_pickling(command, protocol):
    again = pickle.loads(pickle.dumps(command, protocol))
    assert again == command
    assert hash(again) == hash(command)
    for name in FIELDS:
        assert getattr(again, name) == getattr(command, name)
        assert type(getattr(again, name)) is type(getattr(command, name))
    with pytest.raises(TypeError):
        again.env["new"] = "value"


def test_pickling_and_copying_validate_nothing_again(monkeypatch, tmp_path):
    """What was absolute, and what was right, stays so wherever it is unpickled."""
    monkeypatch.chdir(tmp_path)
    command = CommandConfig("true", cwd="inside", stdout="file")
    data = pickle.dumps(command)
    monkeypatch.chdir("/")
    assert pickle.loads(data) == command


def test_a_command_can_be_copied():
    command = everything()
    assert copy.copy(command) == command
    assert copy.deepcopy(command) == command
    assert dict(copy.deepcopy(command).metadata) == {"key": [1, 2]}
    assert dataclasses.replace(command, timeout=1).timeout == 1


def test_copies_with_changes_leave_the_original_alone():
    command = CommandConfig("git", ["log"], env={"A": "1"}, timeout=5)
    assert command.with_options(check=True, timeout=None) == CommandConfig("git", ["log"], env={"A": "1"}, check=True)
    assert command.with_args("status", b"-s").args == ("status", "-s")
    assert command.with_args().args == ()
    assert command.with_timeout(9).timeout == 9
    assert command.with_timeout(None).timeout is None
    assert command.with_cwd("/srv").cwd == "/srv"
    assert command.with_cwd(None).cwd is None
    assert command.with_stdin(b"x").stdin == b"x"
    assert command == CommandConfig("git", ["log"], env={"A": "1"}, timeout=5)


def test_variables_are_added_to_those_that_are_there():
    command = CommandConfig("true", env={"A": "1", "B": "2"}).with_env(B="3", C=None)
    assert dict(command.env) == {"A": "1", "B": "3", "C": None}


def test_copies_are_validated_like_new_ones():
    for change in (
        lambda command: command.with_options(grace=-1),
        lambda command: command.with_args(7),
        lambda command: command.with_timeout(-1),
        lambda command: command.with_cwd(""),
        lambda command: command.with_stdin("text"),
        lambda command: command.with_env(A=7),
    ):
        with pytest.raises(ConfigError):
            change(CommandConfig("true"))


def test_a_copy_keeps_all_that_was_not_changed():
    for name in FIELDS - {"timeout"}:
        assert getattr(everything().with_timeout(77), name) == getattr(everything(), name)


def test_a_shell_only_by_its_name():
    command = CommandConfig.shell('sort "$1" | uniq', ["a file"], timeout=3)
    assert command.argv == ["/bin/sh", "-c", 'sort "$1" | uniq', "sh", "a file"]
    assert command.timeout == 3
    assert CommandConfig.shell("exit 7").argv == ["/bin/sh", "-c", "exit 7"]
    assert CommandConfig("a | b").argv == ["a | b"]


def test_a_wrong_script_or_option_of_a_shell_is_named():
    with pytest.raises(ConfigError, match="script"):
        CommandConfig.shell(7)
    with pytest.raises(ConfigError, match="args"):
        CommandConfig.shell("true", "one string")
    with pytest.raises(ConfigError, match="timeout"):
        CommandConfig.shell("true", timeout=-1)


def test_the_environment_of_the_program():
    base = {"KEEP": "1", "CHANGE": "2", "REMOVE": "3"}
    command = CommandConfig("true", env={"CHANGE": "x", "REMOVE": None, "NEVER": None, "NEW": ""})
    assert command.environment(base) == {"KEEP": "1", "CHANGE": "x", "NEW": ""}
    assert command.with_options(inherit_env=False).environment(base) == {"CHANGE": "x", "NEW": ""}
    assert base == {"KEEP": "1", "CHANGE": "2", "REMOVE": "3"}


def test_display_is_quoted_for_people():
    assert CommandConfig("git", ["log", "a b", "it's", ""]).display() == "git log 'a b' 'it'\"'\"'s' ''"


def test_display_is_the_label_where_there_is_one():
    assert CommandConfig("git", label="nightly backup").display() == "nightly backup"


def test_display_is_cut():
    long = CommandConfig("echo", ["x" * 1000])
    assert len(long.display()) == 120
    assert long.display().endswith("…")
    assert long.display(20) == "echo xxxxxxxxxxxxxx…"
    assert len(CommandConfig("echo", label="x" * 1000).display(50)) == 50


def test_display_can_always_be_printed():
    text = CommandConfig("echo", [b"\xff", "naïve"]).display()
    text.encode("utf-8")
    assert "naïve" in text


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(CommandConfig("git", ["log"])) == "CommandConfig('git', ['log'])"
    shown = repr(everything())
    for name in set(EVERYTHING):
        assert f"{name}=" in shown
    assert "OutputPolicy.KEEP_TAIL" in shown
    assert "stderr=Stdio.MERGED" in shown


def test_repr_and_str_hide_what_may_be_secret():
    command = CommandConfig("login", env={"PASSWORD": "s3cret", "TOKEN": "s3cret"}, stdin=b"s3cret")
    for text in (repr(command), str(command), f"{command}", command.display()):
        assert "s3cret" not in text
    assert "PASSWORD" in repr(command)
    assert "<6 bytes>" in repr(command)


def test_the_mappings_are_mappings():
    command = everything()
    assert isinstance(command.env, Mapping)
    assert isinstance(command.metadata, Mapping)


def test_limits_are_data():
    limits = ResourceLimits(address_space=5)
    assert limits == pickle.loads(pickle.dumps(limits))
    assert hash(limits) == hash(ResourceLimits(address_space=5))
    assert limits != ResourceLimits(address_space=6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.address_space = 6
    with pytest.raises(TypeError):
        ResourceLimits(5)
