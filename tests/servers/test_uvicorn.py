"""uvicorn: threads that are all taken, clients that leave, a stop in mid-request."""

import contextlib
import http.client
from concurrent.futures import ThreadPoolExecutor

import pytest

from .support import assert_all_gone, assert_dies, free_port, serving


def uvicorn(*options: str, app: str = "servers.apps.asgi:app", path: str = "/pool", **environment: str):
    port = free_port()
    return serving("uvicorn", app, "--port", str(port), *options, path=path, port=port, **environment)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_more_blocking_requests_than_there_are_threads(loop):
    with uvicorn("--loop", loop) as server, ThreadPoolExecutor(60) as clients:
        blocking = [clients.submit(server.get, "/thread") for _ in range(120)]
        others = [clients.submit(server.get, path) for path in ["/pool", "/run"] * 20]
        assert {each.result(60) for each in blocking} == {"from a thread\n"}
        assert {each.result(60) for each in others} == {"from the pool\n", "from a one-liner\n"}
        assert_all_gone(server.stop())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_leaves_a_stream_ends_its_command_and_costs_no_cpu(ready, loop):
    with uvicorn("--loop", loop, READY=ready.path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/stream")
            program = int(ready.wait_blocking())
            assert connection.getresponse().read(4) == b"line"
        assert_dies(program)
        assert server.get("/pool") == "from the pool\n"
        assert_all_gone(server.stop())


def test_a_stop_in_mid_request_leaves_nothing(ready):
    with uvicorn("--timeout-graceful-shutdown", "1", READY=ready.path) as server:
        with server.asked_in_vain("/hang"):
            program = int(ready.wait_blocking())
            below = server.stop()
        assert_all_gone(below)
        assert_dies(program)


def test_several_server_processes():
    with uvicorn("--workers", "2") as server:
        for _ in range(10):
            assert server.get("/run") == "from a one-liner\n"
        assert_all_gone(server.stop())


def test_django_under_asgi():
    pytest.importorskip("django", reason="pip install 'aiocmdpool[servers]'")
    with uvicorn("--lifespan", "off", app="servers.apps.django_site:asgi", path="/run") as server:
        for _ in range(10):
            assert server.get("/run") == "from a one-liner\n"
            assert server.get("/pool") == "from the pool\n"
        assert_all_gone(server.stop())
