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
@pytest.mark.parametrize("field", ["workers", "niceness", "recycle_after", "max_worker_memory", "hang_after"])
def test_what_is_for_workers_is_refused_where_there_are_none(mode, field):
    with pytest.raises(
        ConfigError, match=f"{field}: {mode!r} has no workers; use ExecutionMode.PROCESS_POOL"
    ) as caught:
        ExecutionConfig(mode=mode, **{field: 2})
    assert caught.value.field == field


def test_the_builder_says_what_the_constructor_says():
    built = (
        ExecutionConfig()
        .with_mode(ExecutionMode.PROCESS_POOL)
        .with_workers(2)
        .with_concurrency_limit(8)
        .with_niceness(10)
        .with_recycle_after(1000)
        .with_max_worker_memory(1 << 28)
        .with_hang_after(3)
        .with_max_output_total(None)
        .with_python("/usr/bin/python3")
    )
    assert built == ExecutionConfig(
        mode=ExecutionMode.PROCESS_POOL,
        workers=2,
        concurrency_limit=8,
        niceness=10,
        recycle_after=1000,
        max_worker_memory=1 << 28,
        hang_after=3.0,
        max_output_total=None,
        python="/usr/bin/python3",
    )


def test_the_builder_has_a_word_for_every_field_and_copies():
    first = ExecutionConfig(concurrency_limit=3)
    for field in dataclasses.fields(ExecutionConfig):
        assert callable(getattr(first, f"with_{field.name}")), field.name
    assert first.with_concurrency_limit(4) == ExecutionConfig(concurrency_limit=4)
    assert first == ExecutionConfig(concurrency_limit=3)
    assert first.with_options(workers=2, concurrency_limit=None) == ExecutionConfig(workers=2)


def test_the_builder_refuses_what_the_constructor_refuses():
    with pytest.raises(ConfigError, match="workers: 0 is not a whole number >= 1"):
        ExecutionConfig().with_workers(0)
    with pytest.raises(ConfigError, match=r"workers: ExecutionMode\.THREAD has no workers"):
        ExecutionConfig().with_workers(2).with_mode(ExecutionMode.THREAD)
    with pytest.raises(ConfigError, match="worker: no such option of ExecutionConfig; did you mean 'workers'"):
        ExecutionConfig().with_options(worker=2)


@pytest.mark.parametrize("field", ["recycle_after", "max_worker_memory", "hang_after"])
@pytest.mark.parametrize("value", [0, -1, "1", True, float("inf")])
def test_a_wrong_setting_of_workers_names_itself(field, value):
    with pytest.raises(ConfigError, match=f"{field}: ") as caught:
        ExecutionConfig(**{field: value})
    assert caught.value.field == field


async def test_workers_are_recycled_as_the_configuration_says():
    async with CommandPool(ExecutionConfig(workers=1, concurrency_limit=1, recycle_after=2)) as pool:
        for _ in range(5):
            await pool.execute(CommandConfig("true"))
        assert pool.worker_statistics().recycled == 2


def test_every_setting_of_workers_reaches_them():
    settings = {"niceness": 3, "recycle_after": 7, "max_worker_memory": 1 << 30, "hang_after": 9.0}
    crew = create_backend(ExecutionConfig(workers=2, **settings)).pool._crew
    assert crew.size == 2
    assert {name: getattr(crew, f"_{name}") for name in settings} == settings
