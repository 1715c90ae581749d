"""An exception that another thread sends (PyThreadState_SetAsyncExc), as the time limits of task queues do."""

import ctypes
import threading

import pytest
from contract.support import helper, is_gone

from aiocmdpool import ExecutionConfig, sync

from .support import outcome_of

pytestmark = pytest.mark.slow


class Limit(BaseException):
    """What is sent."""


def send(ident):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_long(ident), ctypes.py_object(Limit))


@pytest.fixture
def pools():
    config = ExecutionConfig(concurrency_limit=1, workers=1)
    with sync.CommandPool(config) as pool, sync.CommandPoolSeg(config) as seg, sync.ProcessPool(1) as process_pool:
        yield {"pool": pool, "seg": seg, "process_pool": process_pool}


WAYS = {
    "execute": lambda pools, command: sync.execute(command),
    "pool": lambda pools, command: pools["pool"].execute(command),
    "result": lambda pools, command: pools["pool"].push_task(command).result(),
    "result in time": lambda pools, command: pools["pool"].push_task(command).result(3600),
    "map": lambda pools, command: list(pools["pool"].map([command])),
    "map as completed": lambda pools, command: list(pools["pool"].map([command], ordered=False)),
    "seg": lambda pools, command: pools["seg"].execute(command),
    "seg result": lambda pools, command: pools["seg"].push_task(command).result(),
    "process pool": lambda pools, command: pools["process_pool"].execute(command),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_it_arrives_in_a_blocked_thread_and_ends_the_command(pools, threads, ready, way):
    idents = []

    def use():
        idents.append(threading.get_ident())
        WAYS[way](pools, helper("ignore_sigterm", ready.path, grace=0.05))

    blocked = threads(use)
    pid = int(ready.wait_blocking())
    send(idents[0])
    assert isinstance(outcome_of(blocked), Limit)
    assert is_gone(pid)
