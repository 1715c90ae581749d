"""Celery with Redis: children that are forked from a parent with pools, time limits, revoked tasks, threads."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import psutil
import pytest
from contract.support import HOST_DEADLINE, host_environment, is_dead

from .support import assert_all_gone, free_port

pytest.importorskip("celery", reason="pip install 'aiocmdpool[servers]'")
REDIS = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")

PATIENCE = 60.0  # seconds for a task


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """A Redis that keeps nothing."""
    port = free_port()
    argv = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        redis = pytest.importorskip("redis")
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                client.ping()
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def working(broker: str, *options: str, ready: str = "/dev/null") -> Iterator["Worker"]:
    worker = Worker(broker, list(options), ready)
    try:
        yield worker
    finally:
        worker.close()


class Worker:
    """A Celery worker, and a client to give it tasks."""

    def __init__(self, broker: str, options: list[str], ready: str) -> None:
        self._environment = host_environment() | {"BROKER": broker, "READY": ready, "C_FORCE_ROOT": "1"}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with it
        argv = ["celery", "-A", "servers.apps.celery_app", "worker", "-l", "WARNING", *options]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def call(self, script: str) -> str:
        """Run a script with `tasks` as a client; what it prints."""
        client = subprocess.run(
            [sys.executable, "-c", f"from servers.apps import celery_app as tasks\n{script}"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE + 20,
            check=False,
        )
        assert client.returncode == 0, f"{client.stderr}\n{self.log()}"
        return client.stdout.strip()

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self) -> list[psutil.Process]:
        below = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(HOST_DEADLINE)
        return below

    def close(self) -> None:
        if self._process.poll() is None:
            below = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            self._process.wait()
            for process in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._log.close()


@pytest.mark.parametrize("options", [("-c", "2"), ("-P", "threads", "-c", "4"), ("-P", "solo")], ids=" ".join)
def test_tasks_run_commands_in_a_pool_of_their_process(broker, options):
    with working(broker, *options) as worker:
        script = f"""
calls = [each.delay("hello") for each in (tasks.in_pool, tasks.in_one_liner) * 10]
print({{call.get(timeout={PATIENCE}) for call in calls}})"""
        assert worker.call(script) == "{'hello\\n'}"
        assert_all_gone(worker.stop())


@pytest.mark.parametrize("task", ["hang_in_pool", "hang_in_one_liner"])
@pytest.mark.parametrize("end", ["hard limit", "revoked"])
def test_a_task_that_is_ended_leaves_no_program(broker, ready, task, end):
    limit = "time_limit=3" if end == "hard limit" else ""
    with working(broker, "-c", "1", ready=ready.path) as worker:
        call = worker.call(f"print(tasks.{task}.apply_async({limit}).id)")
        program = int(ready.wait_blocking())
        if end == "revoked":
            worker.call(f"tasks.app.control.revoke({call!r}, terminate=True, signal='SIGKILL')")
        deadline = time.monotonic() + PATIENCE
        while not is_dead(program):
            assert time.monotonic() < deadline, worker.log()
            time.sleep(0.02)
        assert worker.call(f"print(tasks.in_pool.delay('after').get(timeout={PATIENCE}))") == "after"
        assert_all_gone(worker.stop())
