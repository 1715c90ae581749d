"""What a command gave belongs to its caller: nothing of ours keeps it, not even until the garbage collector comes."""

import gc
import sys

import pytest

from aiocmdpool.commands.errors import OutputLimitExceeded

from .support import helper

pytestmark = pytest.mark.slow

SIZE = 3_000_000  # bytes: enough for a memory file, and for a thread to copy it


@pytest.fixture(autouse=True)
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_result_that_is_let_go_is_gone(backend):
    output = (await backend.execute(helper("write_n_bytes", SIZE))).stdout
    assert sys.getrefcount(output) == 2  # this frame, and the call itself


async def test_an_error_that_has_been_dealt_with_is_gone_with_its_output(backend):
    output = None
    try:
        await backend.execute(helper("write_n_bytes", SIZE + 1, max_output=SIZE))
    except OutputLimitExceeded as error:
        output = error.result.stdout
    assert len(output) == SIZE
    assert sys.getrefcount(output) == 2
