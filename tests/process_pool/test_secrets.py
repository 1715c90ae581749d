"""Values of variables and data on stdin are in no message, `repr` or log, also where a worker is lost."""

import asyncio
import logging
import os
import signal
import traceback

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, TaskCancelled, WorkerLost
from aiocmdpool.pool.command_pool import CommandPool

from .support import hold, in_background, pairs

pytestmark = pytest.mark.slow

WORD = "s3cr3t"
SECRETS = {"env": {"PASSWORD": f"{WORD}-variable"}, "stdin": f"{WORD}-input".encode()}


def texts_of(error: BaseException) -> list[str]:
    """Everything that a log, a debugger or an error page may show of an error."""
    shown = [str(error), repr(error), *traceback.format_exception(error)]
    if isinstance(error, ExecuteError):
        shown += [repr(error.command), str(error.command), repr(error.result), str(error.result)]
    return shown


def assert_hidden(*texts: str) -> None:
    assert not [text for text in texts if WORD in text]


async def test_no_secret_is_in_the_message_of_a_lost_worker(new_pool, ready, release, caplog):
    caplog.set_level(logging.DEBUG)
    pool = new_pool(1)
    running = in_background(pool, hold(ready, release, **SECRETS), hold(ready, release, check=True, **SECRETS))
    [(_, worker), _] = await pairs(ready, 2)
    assert_hidden(repr(pool), repr(pool._workers[0]), *map(repr, pool._workers[0]._pending.values()))
    os.kill(worker, signal.SIGKILL)
    for end in running:
        error = await end
        assert isinstance(error, WorkerLost)
        assert_hidden(*texts_of(error))
    assert_hidden(caplog.text)


async def test_no_secret_is_in_what_is_shown_of_a_pool_and_its_tasks(ready, release, caplog):
    caplog.set_level(logging.DEBUG)
    async with CommandPool() as pool:
        handle = await pool.push_task(hold(ready, release, **SECRETS))
        await pairs(ready, 1)
        assert_hidden(repr(pool), repr(handle), str(handle), repr(pool.statistics()), repr(pool.tracker))
        handle.cancel()
        [error] = await asyncio.gather(handle, return_exceptions=True)
        assert isinstance(error, TaskCancelled)
        assert_hidden(*texts_of(error), repr(handle))
    assert_hidden(caplog.text)


async def test_no_secret_is_in_an_error_of_a_callback_or_of_a_task_that_nobody_awaits(new_pool, caplog):
    """The loop logs those, with what it knows of them."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    unseen: list[str] = []
    loop.set_exception_handler(lambda _, context: unseen.extend([str(context), *map(repr, context.values())]))
    pool = new_pool(1)
    task = asyncio.ensure_future(pool.execute(CommandConfig("false", check=True, **SECRETS)))
    await asyncio.wait([task])
    loop.call_exception_handler({"message": "unseen", "exception": task.exception(), "task": task, "future": task})
    assert unseen
    assert_hidden(*unseen, repr(task), caplog.text)
