"""Who takes part, and how each one runs a script with a timeout: the way its own documentation shows.

A timeout is an exception with most of them; nobody catches it here, except where ending the program is left to the
caller. The modules are looked up by name because most of them need not be there, and few of them are typed.
"""

import asyncio
import dataclasses
import os
import shlex
import signal
import subprocess
from collections.abc import Awaitable, Callable
from importlib import import_module

from aiocmdpool import CommandConfig, ProcessBackend, ProcessPool

Way = Callable[[str, float], None]
AsyncWay = Callable[[str, float], Awaitable[None]]

_OPEN: list[object] = []  # closing a pool ends everything; what counts is what was ended without that


async def _asyncio(script: str, timeout: float) -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=subprocess.PIPE)
    try:
        await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


async def _asyncio_group(script: str, timeout: float) -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=subprocess.PIPE, start_new_session=True)
    try:
        await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise


def _subprocess(script: str, timeout: float) -> None:
    subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, timeout=timeout, check=True)


async def _anyio(script: str, timeout: float) -> None:
    anyio = import_module("anyio")
    with anyio.fail_after(timeout):
        await anyio.run_process(["sh", "-c", script])


async def _trio(script: str, timeout: float) -> None:
    trio = import_module("trio")
    with trio.fail_after(timeout):
        await trio.run_process(["sh", "-c", script], capture_stdout=True)


def _sh(script: str, timeout: float) -> None:
    import_module("sh").sh("-c", script, _timeout=timeout)


def _pexpect_run(script: str, timeout: float) -> None:
    import_module("pexpect").run(f"sh -c {shlex.quote(script)}", timeout=timeout)


def _pexpect(script: str, timeout: float) -> None:
    pexpect = import_module("pexpect")
    child = pexpect.spawn("sh", ["-c", script], timeout=timeout)
    try:
        child.expect(pexpect.EOF)
    finally:
        child.close()


async def _shellous(script: str, timeout: float) -> None:
    await import_module("shellous").sh("sh", "-c", script).set(timeout=timeout)


def _plumbum(script: str, timeout: float) -> None:
    import_module("plumbum").local["sh"]["-c", script].run(timeout=timeout)


async def _plumbum_async(script: str, timeout: float) -> None:
    await import_module("plumbum").async_local["sh"]["-c", script].run(timeout=timeout)


def _invoke(script: str, timeout: float) -> None:
    import_module("invoke").Context().run(script, timeout=timeout, hide=True, in_stream=False)


async def _process(script: str, timeout: float) -> None:
    backend = ProcessBackend()
    _OPEN.append(backend)
    await backend.execute(CommandConfig.shell(script, timeout=timeout))


async def _process_pool(script: str, timeout: float) -> None:
    pool = ProcessPool()
    _OPEN.append(pool)
    await pool.start()
    await pool.execute(CommandConfig.shell(script, timeout=timeout))


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table."""

    name: str
    label: str
    way: Way | AsyncWay
    loop: str = ""
    """`asyncio`, `uvloop` or `trio`; empty where the call blocks."""
    module: str = ""
    """What has to be installed; empty for the standard library and for this package."""


_ALL = (
    Peer("process-pool", "ProcessPool", _process_pool, "asyncio"),
    Peer("process", "ProcessBackend", _process, "asyncio"),
    Peer("asyncio", "asyncio, kill and wait", _asyncio, "asyncio"),
    Peer("asyncio-group", "asyncio, new session and killpg", _asyncio_group, "asyncio"),
    Peer("uvloop", "uvloop, kill and wait", _asyncio, "uvloop", "uvloop"),
    Peer("subprocess", "subprocess.run", _subprocess),
    Peer("anyio", "anyio.run_process", _anyio, "asyncio", "anyio"),
    Peer("trio", "trio.run_process", _trio, "trio", "trio"),
    Peer("sh", "sh", _sh, module="sh"),
    Peer("pexpect-run", "pexpect.run", _pexpect_run, module="pexpect"),
    Peer("pexpect", "pexpect.spawn and close", _pexpect, module="pexpect"),
    Peer("shellous", "shellous", _shellous, "asyncio", "shellous"),
    Peer("plumbum", "plumbum", _plumbum, module="plumbum"),
    Peer("plumbum-async", "plumbum, async_local", _plumbum_async, "asyncio", "plumbum"),
    Peer("invoke", "invoke", _invoke, module="invoke"),
)
PEERS = {peer.name: peer for peer in _ALL}
