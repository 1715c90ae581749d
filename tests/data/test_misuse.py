"""Values that nothing can do anything with: each is a `ConfigError` with a message, whatever its size."""

import math

import pytest

from aiocmdpool import CommandConfig, CommandPool, ConfigError, ProcessPool
from aiocmdpool.commands.command import ResourceLimits
from aiocmdpool.commands.pipeline import Pipeline
from aiocmdpool.policies import Admission, Backoff, CircuitBreaker, RateLimit, Retry

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


@pytest.mark.parametrize("field", ["cpu_seconds", "memory", "open_files", "file_size"])
def test_a_limit_that_no_kernel_takes_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        ResourceLimits(**{field: 10**400})
    assert getattr(ResourceLimits(**{field: 2**63 - 1}), field) == 2**63 - 1
