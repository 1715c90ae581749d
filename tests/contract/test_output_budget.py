"""`max_output_total`: what all commands of a backend hold together is bounded, whatever each of them writes."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from aiocmdpool import CommandPool, ConfigError, ExecutionConfig, ExecutionMode, sync
from aiocmdpool.backends.config import create_backend
from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers import ledger
from aiocmdpool.commands.command import CommandConfig, OutputPolicy, Stdio
from aiocmdpool.commands.errors import OutputLimitExceeded, TaskCancelled
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.system import output_budget

from .support import helper, is_gone, pattern, sh

pytestmark = pytest.mark.slow

TOTAL = 300_000  # bytes
INLINE = 65_536  # bytes of a stream that are not counted
FLOOD = 1_000_000  # bytes
HOLDING = 'head -c "$3" /dev/zero; echo >"$1"; read x <"$2"'


@pytest.fixture(params=list(ExecutionMode), ids=lambda mode: mode.value)
async def limited(request) -> AsyncIterator[Callable[..., CommandExecutor]]:
    """Call it with a budget for a backend of each mode."""
    made = []

    async def make(total: object = TOTAL) -> CommandExecutor:
        workers = 1 if request.param is ExecutionMode.PROCESS_POOL else None
        config = ExecutionConfig(mode=request.param, workers=workers, concurrency_limit=20, max_output_total=total)
        made.append(create_backend(config))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


def kept_of(total: int, output: bytes) -> bool:
    """Whether so much was kept: a stream's first 64 KiB are counted where they lie in a memory file."""
    return total <= len(output) <= total + INLINE


def holder(ready, release, size: int = FLOOD, **options) -> CommandConfig:
    """A command that writes so much, keeps what may be kept, and stays until it is released."""
    return sh(HOLDING, ready.path, release.path, str(size), output_policy=OutputPolicy.KEEP_HEAD, **options)


async def held(backend, size: int) -> None:
    """Wait until the holder's output of this size has been read: it is read beside this."""
    if isinstance(backend, ProcessPoolBackend):
        count, expected = backend.pool._ledger.held, size
    else:
        count, expected = (lambda: backend._output.held), size - INLINE
    while count() < expected:
        await asyncio.sleep(0.001)


async def used_up(backend) -> None:
    """Wait until nothing is left: what the holder has written is read beside this."""
    budget = backend.pool._ledger if isinstance(backend, ProcessPoolBackend) else backend._output
    while budget.has_headroom():
        await asyncio.sleep(0.001)


async def test_past_the_budget_a_command_fails_and_the_error_names_the_cure(limited):
    backend = await limited()
    with pytest.raises(OutputLimitExceeded, match="max_output_total") as caught:
        await backend.execute(helper("write_n_bytes", FLOOD))
    assert kept_of(TOTAL, caught.value.result.stdout)
    assert pattern(FLOOD).startswith(caught.value.result.stdout)
    assert caught.value.result.truncated
    for cure in ("raise max_output_total", "to a file"):
        assert cure in str(caught.value)
    assert is_gone(caught.value.result.pid)


async def test_at_its_own_limit_the_error_names_that(limited):
    backend = await limited()
    with pytest.raises(OutputLimitExceeded) as caught:
        await backend.execute(helper("write_n_bytes", FLOOD, max_output=TOTAL - 1))
    assert "max_output_total" not in str(caught.value)
    assert len(caught.value.result.stdout) == TOTAL - 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_past_the_budget_the_head_or_the_tail_is_kept(limited, stream):
    backend = await limited()
    data = pattern(FLOOD)
    for policy in (OutputPolicy.KEEP_HEAD, OutputPolicy.KEEP_TAIL):
        for own in (None, FLOOD - 1):
            command = helper("write_n_bytes", FLOOD, stream, output_policy=policy, max_output=own)
            result = await backend.execute(command)
            output = getattr(result, stream)
            assert kept_of(TOTAL, output)
            assert data.startswith(output) if policy is OutputPolicy.KEEP_HEAD else data.endswith(output)
            assert (result.returncode, result.truncated) == (0, True)


async def test_what_has_been_handed_over_is_not_counted(limited):
    backend = await limited()
    for _ in range(5):
        assert len((await backend.execute(helper("write_n_bytes", TOTAL))).stdout) == TOTAL
        with pytest.raises(OutputLimitExceeded):
            await backend.execute(helper("write_n_bytes", FLOOD))


async def test_all_commands_draw_on_one_budget(limited, ready, release):
    backend = await limited()
    async with asyncio.TaskGroup() as group:
        holding = group.create_task(backend.execute(holder(ready, release, 200_000)))
        await ready.wait()
        await held(backend, 200_000)
        with pytest.raises(OutputLimitExceeded, match="max_output_total") as caught:
            await backend.execute(helper("write_n_bytes", FLOOD))
        assert len(caught.value.result.stdout) < FLOOD // 2
        release.send()
    assert len(holding.result().stdout) == 200_000


@pytest.mark.parametrize("total", [0, 1, TOTAL])
async def test_small_output_is_not_counted(limited, ready, release, total):
    backend = await limited(total)
    async with asyncio.TaskGroup() as group:
        group.create_task(backend.execute(holder(ready, release, INLINE)))
        await ready.wait()
        for result in await asyncio.gather(*(backend.execute(helper("write_n_bytes", INLINE)) for _ in range(10))):
            assert len(result.stdout) == INLINE
        release.send()


async def test_commands_that_capture_wait_until_there_is_room_and_others_do_not(limited, ready, release, tmp_path):
    backend = await limited()
    mark = tmp_path / "mark"
    async with asyncio.TaskGroup() as group:
        holding = group.create_task(backend.execute(holder(ready, release)))
        await ready.wait()
        await used_up(backend)
        waiting = group.create_task(backend.execute(sh('echo >"$1"; echo done', str(mark))))
        await asyncio.sleep(0)
        nulls = {"stdout": Stdio.NULL, "stderr": Stdio.NULL}
        await backend.execute(CommandConfig("true", **nulls))  # begun after it, and over
        assert not mark.exists()
        assert not waiting.done()
        assert not holding.done()
        release.send()
    assert waiting.result().stdout == b"done\n"
    assert holding.result().truncated


async def test_those_that_wait_can_be_cancelled_and_closed(limited, ready, release, tmp_path):
    backend = await limited()
    mark = tmp_path / "mark"
    holding = asyncio.ensure_future(backend.execute(holder(ready, release, grace=0.1)))
    await ready.wait()
    await used_up(backend)
    waiting = [asyncio.ensure_future(backend.execute(sh('echo >"$1"', str(mark)))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert waiting[0].cancelled()
    await backend.aclose()
    ends = await asyncio.gather(*waiting[1:], holding, return_exceptions=True)
    assert [type(end) for end in ends] == [TaskCancelled] * 3
    assert not mark.exists()


async def test_no_bound_is_no_bound(limited):
    backend = await limited(None)
    assert len((await backend.execute(helper("write_n_bytes", FLOOD))).stdout) == FLOOD


async def test_the_default_is_half_of_what_is_free(limited, monkeypatch):
    for module in (output_budget, ledger):
        monkeypatch.setattr(module, "default_output_budget", lambda: TOTAL)
    backend = await limited("auto")
    with pytest.raises(OutputLimitExceeded, match="max_output_total"):
        await backend.execute(helper("write_n_bytes", FLOOD))


@pytest.mark.parametrize("value", [-1, 1.5, True, "1 GB", b""])
def test_a_wrong_budget_is_refused(value):
    for make in (ExecutionConfig, sync.ProcessPool):
        with pytest.raises(ConfigError, match="max_output_total"):
            make(max_output_total=value)


async def test_a_command_pool_has_it_from_its_configuration():
    async with CommandPool(ExecutionConfig(workers=1, max_output_total=TOTAL)) as pool:
        with pytest.raises(OutputLimitExceeded, match="max_output_total"):
            await pool.execute(helper("write_n_bytes", FLOOD))
