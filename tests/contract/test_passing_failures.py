"""Starts that fail for a reason that may pass: tried again for a second, and never run twice."""

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers import process as process_module
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, TaskCancelled
from aiocmdpool.commands.result import EndReason
from aiocmdpool.standalone.kernel import transient

from .backends import BACKENDS
from .privileges import has_capability
from .support import literals_of, outcome, patient_workers

pytestmark = pytest.mark.slow

both_loops = pytest.mark.one_loop("asyncio", "uvloop")

LONG = 20.0  # seconds, instead of one
MOUNTS = Path("/proc/self/mounts")
MAKE = {**BACKENDS, "process_pool": lambda: ProcessPoolBackend(1)}


class Script:
    """A program that writes a line to a file at each run; somebody may have it open for writing."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "script"
        self._log = directory / "log"
        self.path.write_text(f"#!/bin/sh\necho ran >>'{self._log}'\n")
        self.path.chmod(0o755)

    def command(self, **options) -> CommandConfig:
        return CommandConfig(self.path, **options)

    @contextlib.contextmanager
    def open_for_writing(self) -> Iterator[None]:
        with open(self.path, "r+b"):
            if self._can_be_run():
                pytest.skip("this kernel runs programs that are open for writing")
            yield

    def _can_be_run(self) -> bool:
        try:
            return subprocess.run([self.path], check=False).returncode == 0
        except OSError as error:
            return error.errno != errno.ETXTBSY

    @property
    def runs(self) -> int:
        return self._log.read_text().count("ran") if self._log.exists() else 0


@pytest.fixture
def script(tmp_path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def patient(monkeypatch, tmp_path_factory) -> None:
    """Starts are repeated for longer: whoever makes them possible again may be held up on a busy machine."""
    monkeypatch.setattr(transient, "RETRY_FOR", LONG)
    folder = patient_workers(tmp_path_factory.mktemp("patient"), LONG)
    monkeypatch.setattr(process_module, "FOLDER", str(folder))


async def start_and_fail_once(backend, command: CommandConfig) -> asyncio.Task:
    """Run it; by now it has been attempted: the other command came after it, and is done."""
    [running] = await start_together_and_fail_once(backend, [command])
    return running


async def start_together_and_fail_once(backend, commands: list[CommandConfig]) -> list[asyncio.Task]:
    """Run them; all at once, since the second in which they are tried again has begun for the first of them."""
    running = [asyncio.ensure_future(backend.execute(command)) for command in commands]
    await asyncio.sleep(0)
    await backend.execute(CommandConfig("true"))
    assert not any(each.done() for each in running)
    return running


@pytest.mark.parametrize("options", [{}, {"niceness": 1}], ids=["straight", "prepared"])
async def test_a_program_that_is_still_being_written_runs_once_when_that_is_done(
    backend_name, script, patient, options
):
    async with MAKE[backend_name]() as backend:
        with script.open_for_writing():
            running = await start_and_fail_once(backend, script.command(**options))
        assert (await running).ok
    assert script.runs == 1


@both_loops
async def test_many_at_once_run_once_each(backend_name, script, patient):
    async with MAKE[backend_name]() as backend:
        with script.open_for_writing():
            running = await start_together_and_fail_once(backend, [script.command() for _ in range(10)])
        for result in await asyncio.gather(*running):
            assert result.ok
    assert script.runs == 10


@pytest.mark.one_loop
async def test_a_program_that_stays_open_is_an_error_that_says_so(backend_name, script):
    async with MAKE[backend_name]() as backend:
        with script.open_for_writing():
            commands = [script.command(), script.command(niceness=1)]
            errors = await asyncio.gather(*map(outcome, map(backend.execute, commands)))
        for error, command in zip(errors, commands, strict=True):
            assert isinstance(error, IoError)
            assert (error.errno, error.command, error.result) == (errno.ETXTBSY, command, None)
            assert str(script.path) in str(error)
            assert "open for writing" in str(error)
        assert script.runs == 0
        assert (await backend.execute(script.command())).ok
    assert script.runs == 1


@both_loops
async def test_cancelling_what_waits_for_its_start(backend_name, script, patient):
    async with MAKE[backend_name]() as backend:
        with script.open_for_writing():
            running = await start_and_fail_once(backend, script.command())
            running.cancel()
            assert isinstance(await outcome(running), asyncio.CancelledError)
        # Only a bound on how long nothing may happen: attempts are a tenth of a second apart at most.
        await asyncio.sleep(0.15)
    assert script.runs == 0


@both_loops
async def test_closing_while_something_waits_for_its_start(backend_name, script, patient):
    async with MAKE[backend_name]() as backend:
        with script.open_for_writing():
            running = await start_and_fail_once(backend, script.command())
            await backend.aclose()
            error = await outcome(running)
    assert isinstance(error, TaskCancelled)
    assert error.end_reason is EndReason.CLOSED
    assert script.runs == 0


@pytest.mark.one_loop
async def test_a_failure_that_does_not_pass_by_itself_is_told_at_once(backend, tmp_path, monkeypatch):
    """The loop is not asked to wait: were it, the test would, for ever."""
    asked = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda *args, **_: asked.append(args))
    error = await outcome(backend.execute(CommandConfig(tmp_path / "missing")))
    assert error.errno == errno.ENOENT


# -- limits; in a process of its own, which may be brought to them ----


def run_host(scenario: str, backend: str, loop: str, *prefix: str) -> list:
    return literals_of(*prefix, sys.executable, "-W", "error", "-m", "contract.limit_hosts", scenario, backend, loop)


def skip_unless_the_worker_is_seen(backend: str) -> None:
    """Its limits are lowered by its parent, which has to find it and see its descriptors."""
    if backend == "process_pool" and os.geteuid() != 0 and MOUNTS.exists() and "hidepid" in MOUNTS.read_text():
        pytest.skip("a worker hides from others of its user, and /proc does not list it (hidepid)")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_without_descriptors_a_command_waits_for_them_and_runs_once(backend_name, loop):
    """At whatever step of the start they are missing."""
    skip_unless_the_worker_is_seen(backend_name)
    *runs, error, after = run_host("descriptors", backend_name, loop)
    assert runs == [(0, 1)] * len(runs)
    assert error == ("IoError", errno.EMFILE, True)
    assert after == 0


def as_somebody_else() -> list[str]:
    """Root has no limit on processes (setrlimit(2)); whoever takes its place here may still read every file."""
    if os.geteuid() != 0:
        return []
    if not (has_capability("CAP_SETUID") and has_capability("CAP_SETGID")):
        pytest.skip("root has no limit on processes, and takes CAP_SETUID and CAP_SETGID to be somebody else")
    if shutil.which("setpriv") is None:
        pytest.skip("root has no limit on processes, and there is no setpriv here to be somebody else")
    nobody_else = ["--reuid=54321", "--regid=54321", "--clear-groups"]
    return ["setpriv", *nobody_else, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_at_the_limit_on_processes_a_command_waits_and_runs_once(backend_name, loop):
    skip_unless_the_worker_is_seen(backend_name)
    seen = run_host("processes", backend_name, loop, *as_somebody_else())
    assert seen == [(0, 1), (0, 1), ("IoError", errno.EAGAIN, True), 0]
