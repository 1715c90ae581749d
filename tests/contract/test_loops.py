"""The matrix of loops: each async test really runs on each of them."""

import asyncio

import pytest
import uvloop

pytestmark = pytest.mark.slow

seen: list[tuple[str, bool]] = []


async def test_a_test_runs_on_each_loop():
    loop = asyncio.get_running_loop()
    seen.append(("uvloop" if isinstance(loop, uvloop.Loop) else "asyncio", loop.get_debug()))


def test_these_were_asyncio_asyncio_in_debug_mode_and_uvloop():
    if not seen:
        pytest.skip("selected alone")
    assert seen == [("asyncio", False), ("asyncio", True), ("uvloop", False)]


@pytest.mark.one_loop
async def test_one_loop_is_asyncio_when_none_is_named():
    assert type(asyncio.get_running_loop()) is asyncio.SelectorEventLoop


@pytest.mark.one_loop("uvloop")
async def test_one_loop_can_be_named():
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
