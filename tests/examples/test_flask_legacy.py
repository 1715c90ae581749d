"""`examples/flask_legacy.py`: threads, `flask run`, and processes forked after the import."""

import gzip
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract.support import returns_before_programs_end

from .support import EXAMPLES, assert_gone, programs_of, soon

pytest.importorskip("flask")
httpx = pytest.importorskip("httpx")

DATA = b"some words\n" * 50_000


def serve(start, *options):
    service = start("flask_legacy", "--port", 0, *options)
    return service, service.line_with(r"ready on (\S+)").group(1)


def use_from_threads(url):
    """Many requests at once, each on a connection of its own; returns the processes that answered."""

    def use(_):
        answer = httpx.post(f"{url}/gzip", content=DATA, timeout=20)
        assert (answer.status_code, gzip.decompress(answer.content)) == (200, DATA)
        return httpx.get(f"{url}/status", timeout=20).json()["pid"]

    with ThreadPoolExecutor(8) as threads:
        return set(threads.map(use, range(16)))


def tasks_of(url):
    now = httpx.get(f"{url}/status").json()
    return now["running"] + now["queued"]


def test_threads_share_one_pool(start):
    service, url = serve(start)
    assert use_from_threads(url) == {service.pid}
    assert httpx.get(f"{url}/status").json()["completed"] == 16
    assert httpx.get(f"{url}/sleep/0.01").json()["slept"] >= 0.01
    service.send_signal()
    assert service.wait() == 0


def test_a_full_queue_is_an_answer_and_the_end_leaves_nothing(start):
    service, url = serve(start)
    with ThreadPoolExecutor(24) as threads, returns_before_programs_end():
        waiting = [threads.submit(httpx.get, f"{url}/sleep/9.5", timeout=20) for _ in range(24)]  # 4 run, 20 wait
        soon(lambda: tasks_of(url) == 24)
        answer = httpx.post(f"{url}/gzip", content=DATA)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        soon(lambda: len(programs_of(service.pid, "sleep 9.5")) == 4)
        sleeping = programs_of(service.pid, "sleep 9.5")
        service.send_signal()
        assert service.wait() == 0
        assert all(isinstance(each.exception(), httpx.TransportError) for each in waiting)
        assert_gone(sleeping)


def test_processes_forked_after_the_import_have_pools_of_their_own(start):
    service, url = serve(start, "--processes", 2)
    servers = set()
    soon(lambda: servers.update(use_from_threads(url)) or len(servers) == 2)
    assert service.pid not in servers
    workers = programs_of(service.pid, "standalone")
    service.send_signal()
    assert service.wait() == 0
    assert_gone(workers)


def test_flask_run(start):
    argv = [sys.executable, "-W", "error", "-m", "flask", "--app", EXAMPLES / "flask_legacy.py", "run", "--port", "0"]
    service = start("", argv=["sh", "-c", 'exec "$@" 2>&1', "sh", *argv])
    url = service.line_with(r"Running on (\S+)").group(1)
    assert use_from_threads(url) == {service.pid}
    workers = programs_of(service.pid, "standalone")
    service.send_signal()
    assert service.wait() == -15  # nobody catches it there; the workers see that their host has gone
    assert_gone(workers)
