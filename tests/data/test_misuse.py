"""Values that nothing can do anything with: each is a `ConfigError` with a message, whatever its size."""

import asyncio
import math

import pytest

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    ConfigError,
    ExecutionConfig,
    ProcessPool,
    execute,
    execute_pipeline,
    run,
    stream,
    stream_command,
    sync,
)
from aiocmdpool.commands.command import ResourceLimits
from aiocmdpool.commands.pipeline import Pipeline
from aiocmdpool.policies import Admission, Backoff, CircuitBreaker, KeyLimit, RateLimit, Retry

NO_DURATIONS = {
    "10**400": 10**400,
    "-10**400": -(10**400),
    "10**5000": 10**5000,
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
    "-1": -1,
    "-1e-9": -1e-9,
    "text": "1",
    "True": True,
}
TWO = (CommandConfig("a"), CommandConfig("b"))


class Nothing:
    async def execute(self, command):
        raise AssertionError("nothing is to be run")


TAKES_SECONDS = {
    "timeout": lambda value: CommandConfig("x", timeout=value),
    "idle_timeout": lambda value: CommandConfig("x", idle_timeout=value),
    "grace": lambda value: CommandConfig("x", grace=value),
    "leftover_grace": lambda value: CommandConfig("x", leftover_grace=value),
    "with_timeout": lambda value: CommandConfig("x").with_timeout(value),
    "cpu_seconds": lambda value: ResourceLimits(cpu_seconds=-1 if isinstance(value, int) and value < 0 else value),
    "pipeline": lambda value: Pipeline(TWO, timeout=value),
    "hang_after": lambda value: ProcessPool(1, hang_after=value),
    "deadline": lambda value: Retry(Nothing(), deadline=value),
    "backoff": lambda value: Retry(Nothing(), backoff=value),
    "initial": lambda value: Backoff(value),
    "maximum": lambda value: Backoff(maximum=value),
    "reset_after": lambda value: CircuitBreaker(Nothing(), reset_after=value),
    "forget_after": lambda value: CircuitBreaker(Nothing(), forget_after=value),
    "rate": lambda value: RateLimit(Nothing(), value),
    "interval": lambda value: Admission(Nothing(), min_memory=1, interval=value),
}


@pytest.mark.parametrize("name", NO_DURATIONS)
@pytest.mark.parametrize("where", TAKES_SECONDS)
def test_what_is_no_duration_is_refused(where, name):
    value = NO_DURATIONS[name]
    with pytest.raises(ConfigError) as caught:
        TAKES_SECONDS[where](value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", [name for name in NO_DURATIONS if name not in ("text", "True")])
async def test_so_it_is_where_a_pool_is_asked_to_wait(name):
    value = NO_DURATIONS[name]
    async with CommandPool(executor=Nothing()) as pool:
        for ask in (
            lambda: pool.push_task(TWO[0], queue_timeout=value),
            lambda: pool.execute(TWO[0], queue_timeout=value),
            lambda: pool.stop(timeout=value),
        ):
            with pytest.raises(ConfigError):
                await ask()
        with pytest.raises(ConfigError):
            pool.health(long_running=value)
        assert pool.statistics().submitted == 0


@pytest.mark.parametrize("name", ["root\nuser=0", "root\n", "\nroot", "ro\0ot"])
@pytest.mark.parametrize("field", ["user", "group"])
def test_a_name_of_more_than_a_line_is_refused(field, name):
    with pytest.raises(ConfigError, match=field):
        CommandConfig("x", **{field: name})


@pytest.mark.parametrize("field", ["cpu_seconds", "address_space", "open_files", "file_size"])
def test_a_limit_that_no_kernel_takes_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        ResourceLimits(**{field: 10**400})
    assert getattr(ResourceLimits(**{field: 2**63 - 1}), field) == 2**63 - 1


TWO_JOINED = TWO[0] | TWO[1]
NO_COMMANDS = {
    "ls -l": "use run(program, *args), or give a CommandConfig; CommandConfig.shell(line) runs a line of shell",
    ("ls", "-l"): "use run(program, *args), or give a CommandConfig",
    TWO_JOINED: "use execute_pipeline",
    None: "use run(program, *args), or give a CommandConfig",
}
TAKES_A_COMMAND = {
    "execute": lambda value: asyncio.run(execute(value)),
    "stream_command": lambda value: asyncio.run(anext(stream_command(value))),
    "sync": sync.execute,
}
NO_PIPELINES = {
    "a | b": "join commands: CommandConfig(…) | CommandConfig(…); or use execute, with CommandConfig.shell(line)",
    TWO[0]: "use execute for one command",
    TWO: "join commands: CommandConfig(…) | CommandConfig(…)",
}
TAKES_A_MODE = {
    "execute": lambda value: asyncio.run(execute(CommandConfig("true"), mode=value)),
    "run": lambda value: asyncio.run(run("true", mode=value)),
    "stream": lambda value: stream("true", mode=value),
    "sync.execute": lambda value: sync.execute(CommandConfig("true"), mode=value),
    "sync.run": lambda value: sync.run("true", mode=value),
}


@pytest.mark.parametrize("value", NO_COMMANDS, ids=repr)
@pytest.mark.parametrize("where", TAKES_A_COMMAND)
def test_what_is_no_command_is_refused_with_what_to_use(where, value):
    with pytest.raises(ConfigError) as caught:
        TAKES_A_COMMAND[where](value)
    assert caught.value.field == "command"
    assert str(caught.value).endswith(f" is a {type(value).__name__}, not a CommandConfig; {NO_COMMANDS[value]}")


@pytest.mark.parametrize("value", NO_PIPELINES, ids=repr)
def test_what_is_no_pipeline_is_refused_with_what_to_use(value):
    with pytest.raises(ConfigError) as caught:
        asyncio.run(execute_pipeline(value))
    assert caught.value.field == "pipeline"
    assert str(caught.value).endswith(f" is a {type(value).__name__}, not a Pipeline; {NO_PIPELINES[value]}")


@pytest.mark.parametrize("value", ["process", "PROCESS", 7, None])
@pytest.mark.parametrize("where", TAKES_A_MODE)
def test_what_is_no_mode_is_refused_as_in_a_configuration(where, value):
    with pytest.raises(ConfigError) as expected:
        ExecutionConfig(mode=value)
    try:
        with pytest.raises(ConfigError) as caught:
            TAKES_A_MODE[where](value)
    finally:
        sync.shutdown()
    assert (str(caught.value), caught.value.field) == (str(expected.value), "mode")


@pytest.mark.parametrize("number", [2**31, 2**40, 10**5000, -1, -(10**5000)], ids=["31", "40", "huge", "-1", "-huge"])
@pytest.mark.parametrize("field", ["stdin", "stdout", "stderr"])
def test_a_number_that_no_descriptor_has_is_refused(field, number):
    with pytest.raises(ConfigError, match=rf"^{field}: .* is no open descriptor"):
        CommandConfig("x", **{field: number})
    assert getattr(CommandConfig("x", **{field: 2**31 - 1}), field) == 2**31 - 1


@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**40, 10**5000, -1], ids=["-1", "32", "40", "huge", "below"])
@pytest.mark.parametrize("field", ["user", "group"])
def test_a_number_that_no_user_has_is_refused(field, number):
    """The kernel has 32 bits, and takes the last number of them for "leave it as it is" (setreuid(2))."""
    with pytest.raises(ConfigError, match=rf"^{field}: .* is neither a name nor a number"):
        CommandConfig("x", **{field: number})
    if 0 <= number < 10**100:
        with pytest.raises(ConfigError, match=field):
            CommandConfig("x", **{field: f"00{number}"})
    assert getattr(CommandConfig("x", **{field: 2**32 - 2}), field) == 2**32 - 2
    assert getattr(CommandConfig("x", **{field: "0000000000000000"}), field) == "0000000000000000"


HUGE = 10**5000  # more digits than Python shows (sys.set_int_max_str_digits)
TAKES_NO_HUGE_NUMBER = {
    "program": lambda: CommandConfig(HUGE),
    "args": lambda: CommandConfig("x", [HUGE]),
    "all args": lambda: CommandConfig("x", HUGE),
    "cwd": lambda: CommandConfig("x", cwd=HUGE),
    "env": lambda: CommandConfig("x", env={HUGE: "1"}),
    "label": lambda: CommandConfig("x", label=HUGE),
    "check": lambda: CommandConfig("x", check=HUGE),
    "encoding": lambda: CommandConfig("x", encoding=HUGE),
    "stop_signal": lambda: CommandConfig("x", stop_signal=HUGE),
    "output_policy": lambda: CommandConfig("x", output_policy=HUGE),
    "niceness": lambda: CommandConfig("x", niceness=HUGE),
    "mode": lambda: ExecutionConfig(mode=HUGE),
    "python": lambda: ExecutionConfig(python=HUGE),
    "max_output_total": lambda: ExecutionConfig(max_output_total=-HUGE),
    "executor": lambda: CommandPool(executor=HUGE),
    "executor of a policy": lambda: Retry(HUGE),
    "key": lambda: CircuitBreaker(Nothing(), key=HUGE),
    "limit": lambda: KeyLimit(Nothing(), {HUGE: 0}),
}


@pytest.mark.parametrize("where", TAKES_NO_HUGE_NUMBER)
def test_a_number_that_cannot_be_shown_is_refused_like_any_other(where):
    with pytest.raises(ConfigError, match=where.split()[0] if where != "all args" else "args"):
        TAKES_NO_HUGE_NUMBER[where]()


def test_a_command_with_a_number_that_cannot_be_shown_is_shown():
    assert "max_output=a int with too many digits" in repr(CommandConfig("x", max_output=HUGE))


@pytest.mark.parametrize("name", ["a\0b", "undefined", "no-such-encoding", "hex", "", "a\ud800", 5])
def test_what_is_no_encoding_is_refused(name):
    with pytest.raises(ConfigError, match=r"encoding: .* is no encoding that Python knows"):
        CommandConfig("x", encoding=name)
