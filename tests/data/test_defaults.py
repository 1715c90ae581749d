"""`ExecutionConfig(defaults=…)`: options for every command, checked when the configuration is made."""

import copy
import dataclasses
import pickle

import pytest

from aiocmdpool import CommandConfig, ConfigError, ExecutionConfig, OutputPolicy, ResourceLimits, Stdio
from aiocmdpool.commands.command import CommandOptions

DEFAULTS: CommandOptions = {
    "cwd": "/tmp",
    "env": {"LANG": "C", "SECRET": "s3cret"},
    "inherit_env": False,
    "stdin": b"s3cret",
    "stderr": Stdio.MERGED,
    "timeout": 30,
    "grace": 0.5,
    "max_output": 1000,
    "output_policy": OutputPolicy.KEEP_TAIL,
    "check": True,
    "limits": ResourceLimits(cpu_seconds=5),
    "label": "shared",
    "metadata": {"tenant": 1},
    "idempotent": True,
}
CONFIG = ExecutionConfig(defaults=DEFAULTS)


def test_a_command_that_says_nothing_gets_all_of_them():
    assert CONFIG.complete(CommandConfig("x", ["a"])) == CommandConfig("x", ["a"], **DEFAULTS)
    assert CONFIG.complete(CommandConfig("x")).metadata == {"tenant": 1}


@pytest.mark.parametrize("name", sorted(CommandOptions.__annotations__))
def test_what_a_command_says_wins_even_where_it_says_what_is_the_default(name):
    usual = getattr(CommandConfig("x"), name)
    other = ExecutionConfig(defaults={name: DEFAULTS[name]}) if name in DEFAULTS else CONFIG
    for said in (
        CommandConfig("x", **{name: usual}),
        CommandConfig("x").with_options(**{name: usual}),
        CommandConfig("x", **{name: DEFAULTS.get(name, usual)}).with_options(**{name: usual}),
        pickle.loads(pickle.dumps(CommandConfig("x", **{name: usual}))),
        copy.copy(CommandConfig("x", **{name: usual})),
        CommandConfig("x", **{name: usual}).with_args("a").with_args(),
    ):
        if name in ("env", "metadata"):  # each entry is an option of its own
            assert getattr(other.complete(said), name) == DEFAULTS[name]
        else:
            assert getattr(other.complete(said), name) == usual
        assert said == CommandConfig("x")
        assert hash(said) == hash(CommandConfig("x"))


def test_mappings_are_merged_and_the_command_wins():
    command = CommandConfig("x", env={"LANG": "de", "SECRET": None, "MINE": "1"}, metadata={"user": 2})
    completed = CONFIG.complete(command)
    assert completed.env == {"LANG": "de", "SECRET": None, "MINE": "1"}
    assert completed.metadata == {"tenant": 1, "user": 2}


def test_a_copy_with_other_options_still_takes_the_defaults():
    for copied in (
        CommandConfig("x").with_timeout(5),
        dataclasses.replace(CommandConfig("x"), timeout=5),
        copy.deepcopy(CommandConfig("x", timeout=5)),
        pickle.loads(pickle.dumps(CommandConfig("x", timeout=5))),
    ):
        assert (CONFIG.complete(copied).timeout, CONFIG.complete(copied).check) == (5, True)


def test_the_outer_of_two_pools_wins():
    outer = ExecutionConfig(defaults={"timeout": None, "check": False})
    completed = CONFIG.complete(outer.complete(CommandConfig("x")))
    assert (completed.timeout, completed.check, completed.grace) == (None, False, 0.5)


def test_without_defaults_a_command_stays_what_it_is():
    command = CommandConfig("x")
    assert ExecutionConfig().complete(command) is command


def test_they_are_data():
    assert CONFIG == ExecutionConfig(defaults=dict(DEFAULTS)) != ExecutionConfig()
    assert hash(CONFIG) == hash(ExecutionConfig(defaults=DEFAULTS))
    assert pickle.loads(pickle.dumps(CONFIG)) == CONFIG
    assert CONFIG.defaults["timeout"] == 30.0
    assert dataclasses.asdict(CONFIG)["defaults"]["env"] == {"LANG": "C", "SECRET": "s3cret"}
    with pytest.raises(TypeError):
        CONFIG.defaults["timeout"] = 5
    given = {"timeout": 1}
    config = ExecutionConfig(defaults=given)
    given["timeout"] = 2
    assert config.complete(CommandConfig("x")).timeout == 1


def test_the_builder_adds_to_them():
    config = ExecutionConfig().with_defaults(timeout=5, check=True).with_defaults(timeout=6).with_workers(2)
    assert config == ExecutionConfig(workers=2, defaults={"timeout": 6, "check": True})
    assert ExecutionConfig(defaults=config.defaults) == ExecutionConfig(defaults={"timeout": 6, "check": True})


def test_no_secret_is_shown():
    assert "s3cret" not in repr(CONFIG)
    assert "LANG, SECRET" in repr(CONFIG)
    assert "s3cret" not in repr(CONFIG.defaults)


@pytest.mark.parametrize(
    ("defaults", "field", "message"),
    [
        ({"timeuot": 5}, "defaults.timeuot", "did you mean 'timeout'"),
        ({"timeout": -1}, "defaults.timeout", "defaults: timeout: -1 is not"),
        ({"env": {"A": 1}}, "defaults.env['A']", "defaults: env"),
        ({"program": "x"}, "defaults", "'program' is what each command has of its own"),
        ({"args": ["x"]}, "defaults", "'args' is what each command has of its own"),
        (CommandConfig("x"), "defaults", "CommandConfig is not a mapping of options"),
        (None, "defaults", "NoneType is not a mapping of options"),
    ],
)
def test_a_wrong_one_names_itself(defaults, field, message):
    with pytest.raises(ConfigError) as caught:
        ExecutionConfig(defaults=defaults)
    assert message in str(caught.value)
    assert caught.value.field.startswith(field.split("[")[0])


def test_another_mapping_will_do():
    class Shared(dict):
        pass

    assert ExecutionConfig(defaults=Shared(timeout=5)) == ExecutionConfig(defaults={"timeout": 5})
