"""`ExecutionConfig`, and the backend that it names."""

import dataclasses
import os

import pytest

from aiocmdpool import CommandConfig, CommandPool, ConfigError, ExecutionConfig, ExecutionMode, create_backend


def test_the_default_concurrency_is_the_number_of_cpus():
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert ExecutionConfig().concurrency == available
    assert ExecutionConfig(concurrency_limit=17).concurrency == 17


def test_a_configuration_is_frozen_and_compared_by_value():
    config = ExecutionConfig(concurrency_limit=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.concurrency_limit = 4
    assert config == ExecutionConfig(concurrency_limit=3) != ExecutionConfig()
    assert hash(config) == hash(ExecutionConfig(concurrency_limit=3))


@pytest.mark.parametrize("mode", ["process", None, 1])
def test_a_wrong_mode_is_refused_and_the_right_ones_named(mode):
    with pytest.raises(ConfigError, match=r"mode: .* is not ExecutionMode: ExecutionMode\.PROCESS") as caught:
        ExecutionConfig(mode=mode)
    assert caught.value.field == "mode"


@pytest.mark.parametrize("mode", list(ExecutionMode))
async def test_every_mode_runs_commands(mode):
    config = ExecutionConfig(mode=mode, concurrency_limit=2)
    async with create_backend(config) as backend:
        assert (await backend.execute(CommandConfig("echo", ["hello"]))).stdout == b"hello\n"
    async with CommandPool(config) as pool:
        assert (await pool.execute(CommandConfig("echo", ["hello"]))).stdout == b"hello\n"


async def test_the_limit_is_the_number_of_threads():
    async with create_backend(ExecutionConfig(mode=ExecutionMode.THREAD, concurrency_limit=3)) as backend:
        assert "3 threads" in repr(backend)


@pytest.mark.parametrize("mode", [ExecutionMode.PROCESS, ExecutionMode.THREAD])
@pytest.mark.parametrize("field", ["workers", "niceness"])
def test_what_is_for_workers_is_refused_where_there_are_none(mode, field):
    with pytest.raises(
        ConfigError, match=f"{field}: {mode!r} has no workers; use ExecutionMode.PROCESS_POOL"
    ) as caught:
        ExecutionConfig(mode=mode, **{field: 2})
    assert caught.value.field == field
