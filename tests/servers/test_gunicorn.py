"""gunicorn: pools that were made in the master, workers that run out of time, a reload."""

import os
import signal

import psutil
import pytest

from .support import assert_all_gone, assert_dies, free_port, serving

pytest.importorskip("gunicorn", reason="pip install 'aiocmdpool[servers]'")

APPS = {"plain": "servers.apps.wsgi:application", "django": "servers.apps.django_site:wsgi"}


def gunicorn(app: str, *options: str, path: str = "/pool", **environment: str):
    port = free_port()
    address = f"127.0.0.1:{port}"
    return serving("gunicorn", app, "-b", address, *options, path=path, port=port, **environment)


@pytest.mark.parametrize("options", [(), ("--preload",), ("--preload", "-k", "gthread", "--threads", "4")], ids=str)
def test_each_worker_has_its_own_pool(options):
    with gunicorn(APPS["plain"], "-w", "2", *options) as server:
        workers = set()
        for _ in range(20):
            assert server.get("/pool") == "from the pool\n"
            assert server.get("/run") == "from a one-liner\n"
            workers.add(server.get("/pid"))
        assert server.get("/") == "at import\n"
        below = server.stop()
        assert len(below) > len(workers)
        assert_all_gone(below)


@pytest.mark.parametrize("where", ["pool", "run"])
def test_a_worker_that_runs_out_of_time_leaves_nothing(ready, where):
    """The master sends SIGABRT, and SIGKILL a moment later."""
    with gunicorn(APPS["plain"], "-w", "1", "--timeout", "2", READY=ready.path) as server:
        first = server.get("/pid")
        with server.asked_in_vain(f"/hang/{where}"):
            program = int(ready.wait_blocking())
        server.wait_until_it_answers("/pool")
        assert server.get("/pid") != first
        assert_dies(program)
        assert_all_gone(server.stop())


def test_a_reload_leaves_nothing_of_the_old_workers():
    with gunicorn(APPS["plain"], "-w", "2", "--preload") as server:
        server.get("/run")
        before = []
        for child in psutil.Process(server.pid).children():
            if "gunicorn" in " ".join(child.cmdline()):  # not what the master itself uses
                before += [child, *child.children(recursive=True)]
        server.send_signal(signal.SIGHUP)
        assert_all_gone(before)
        server.wait_until_it_answers("/run")
        assert_all_gone(server.stop())


def test_a_master_that_is_killed_leaves_no_program(ready):
    with gunicorn(APPS["plain"], "-w", "1", READY=ready.path) as server:
        with server.asked_in_vain("/hang/run"):
            program = int(ready.wait_blocking())
            below = psutil.Process(server.pid).children(recursive=True)
            for process in psutil.Process(server.pid).children():
                os.kill(process.pid, signal.SIGKILL)
            server.stop(signal.SIGKILL)
        assert_all_gone(below)
        assert_dies(program)


def test_async_views_of_django_have_a_loop_for_each_request():
    pytest.importorskip("django", reason="pip install 'aiocmdpool[servers]'")
    with gunicorn(APPS["django"], "-w", "1", path="/run") as server:
        for _ in range(20):
            assert server.get("/run") == "from a one-liner\n"
            assert server.get("/pool") == "from the pool\n"
        assert_all_gone(server.stop())
