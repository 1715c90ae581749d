"""Processes in which gevent or eventlet has replaced threads: an error at the first call, and what to do works."""

import importlib.util
import subprocess
import sys
import types

import pytest
from contract.support import HOST_DEADLINE, host_environment

from aiocmdpool import CommandConfig, ExecuteError, sync

FAKES = {
    "gevent": ("gevent.monkey", "is_module_patched", "gevent has patched subprocess: use monkey.patch_all"),
    "eventlet": ("eventlet.patcher", "is_monkey_patched", "eventlet has patched subprocess: use eventlet.monkey_patch"),
}
USES = [
    lambda: sync.run("true"),
    lambda: sync.CommandPool().execute(CommandConfig("true")),
    lambda: sync.CommandPool().push_task(CommandConfig("true")),
    lambda: sync.CommandPoolSeg().push_task(CommandConfig("true")).result(),
    lambda: sync.ProcessPool().start(),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", list(FAKES))
def test_the_first_call_says_what_is_wrong_and_what_to_do(monkeypatch, name, use):
    module, function, message = FAKES[name]
    fake = types.ModuleType(module)
    setattr(fake, function, lambda name: name == "subprocess")
    monkeypatch.setitem(sys.modules, module, fake)
    with pytest.raises(ExecuteError, match=message):
        use()


def test_where_nothing_that_matters_is_patched_it_works(monkeypatch):
    for module, function, _ in FAKES.values():
        fake = types.ModuleType(module)
        setattr(fake, function, lambda name: name == "socket")
        monkeypatch.setitem(sys.modules, module, fake)
    assert sync.run("true").ok


HELD = """
from gevent import monkey
monkey.patch_all()
from aiocmdpool import ExecuteError, sync
for _ in range(2):
    try:
        sync.run("true")
    except ExecuteError as error:
        print(error)
"""

ADVICE = """
from gevent import monkey
monkey.patch_all(thread=False, subprocess=False, os=False, signal=False)
import gevent
from aiocmdpool import CommandConfig, sync
turns = []
def others():
    while True:
        turns.append(1)
        gevent.sleep(0.01)
gevent.spawn(others)
threadpool = gevent.get_hub().threadpool
print(threadpool.apply(sync.run, ("echo", "hello")).text().strip())
with sync.CommandPool() as pool:
    print(threadpool.apply(pool.execute, (CommandConfig("sh", ["-c", "sleep 0.3; echo pool"]),)).text().strip())
print(len(turns) > 5)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="wants gevent")
@pytest.mark.parametrize(("script", "said"), [(HELD, ["gevent has patched"] * 2), (ADVICE, ["hello", "pool", "True"])])
def test_real_gevent(script, said):
    argv = [sys.executable, "-c", script]
    output = subprocess.run(argv, env=host_environment(), capture_output=True, text=True, timeout=HOST_DEADLINE)
    assert (output.returncode, output.stderr) == (0, "")
    lines = output.stdout.splitlines()
    assert len(lines) == len(said)
    assert all(expected in line for expected, line in zip(said, lines, strict=True))
