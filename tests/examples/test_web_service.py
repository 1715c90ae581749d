"""`examples/web_service.py`, served and used over HTTP."""

import signal
import socket
import struct

import pytest
from contract.support import returns_before_programs_end

from .support import assert_gone, programs_of, soon

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

PICTURE = b"P6\n400 300\n255\n" + bytes(range(240)) * 1500
LONG = "/film?seconds=60"


@pytest.fixture
def serve(start):
    """Call it with options for the process and a client for it."""
    clients = []

    def begin(*options):
        service = start("web_service", "--port", 0, "--converter", "stand-in", *options)
        client = httpx.Client(base_url=service.line_with(r"ready on (\S+),").group(1), timeout=20)
        clients.append(client)
        return service, client

    yield begin
    for client in clients:
        client.close()


def ended(service):
    service.send_signal()
    assert service.wait() == -signal.SIGTERM  # uvicorn stops, and then ends by the signal that it got
    return True


def test_pictures_become_thumbnails(serve):
    service, client = serve()
    answer = client.post("/thumbnail", content=PICTURE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    assert struct.unpack(">II", answer.content[16:24]) == (200, 150)

    answer = client.post("/thumbnail", content=b"no picture")
    assert answer.status_code == 422
    assert "not a picture" in answer.text
    assert client.post("/thumbnail", content=iter([PICTURE])).status_code == 413  # of no stated length

    assert client.get("/healthz").json() == {"state": "healthy", "reasons": []}
    metrics = client.get("/metrics").text
    assert 'aiocmdpool_tasks_finished_total{pool="web",status="completed"} 1.0' in metrics
    assert 'aiocmdpool_tasks_finished_total{pool="web",status="failed"} 1.0' in metrics
    assert ended(service)
    assert service.errors() == ""


def test_progress_is_streamed(serve):
    service, client = serve()
    events = client.get("/film?seconds=0.2").text.split("\n\n")
    kinds = [event.split("\n")[0] for event in events if event]
    assert kinds == ["event: progress"] * 5 + ["event: done"]
    assert events[0] == "event: progress\ndata: 0.200"
    assert client.get("/film?seconds=nan").status_code == 400
    assert ended(service)


def test_a_full_queue_is_an_answer_and_a_client_that_leaves_ends_its_program(serve):
    service, client = serve("--at-once", 1, "--queue", 1)
    with client.stream("GET", LONG) as first:
        events = first.iter_lines()  # kept: httpx hangs up when it is collected
        assert next(events) == "event: progress"  # it runs
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address) as second:
            second.sendall(f"GET {LONG} HTTP/1.1\r\nhost: x\r\n\r\n".encode())  # waits in the queue
            soon(lambda: 'aiocmdpool_tasks_queued{pool="web"} 1.0' in client.get("/metrics").text)
            answer = client.post("/thumbnail", content=PICTURE)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert client.get(LONG).status_code == 503
            health = client.get("/healthz")
            assert (health.status_code, health.json()["state"]) == (200, "degraded")
        films = programs_of(service.pid, "film")
        assert len(films) == 1
    with returns_before_programs_end():
        assert_gone(films)
        assert client.post("/thumbnail", content=PICTURE).status_code == 200
        # Both were ended on purpose, rather than by their next write to a pipe that nobody reads.
        soon(lambda: 'status="cancelled"} 2.0' in client.get("/metrics").text)
    assert client.get("/healthz").json()["state"] == "healthy"
    assert ended(service)


def test_an_upload_whose_sender_has_gone_is_not_worked_on(serve):
    service, client = serve("--at-once", 1)
    with client.stream("GET", LONG) as film:
        events = film.iter_lines()  # kept: httpx hangs up when it is collected
        assert next(events) == "event: progress"
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address) as connection:
            head = f"POST /thumbnail HTTP/1.1\r\nhost: x\r\ncontent-length: {len(PICTURE)}\r\n\r\n"
            connection.sendall(head.encode() + PICTURE)
            soon(lambda: 'aiocmdpool_tasks_queued{pool="web"} 1.0' in client.get("/metrics").text)
        soon(lambda: 'status="cancelled"} 1.0' in client.get("/metrics").text)
    assert ended(service)


def test_sigterm_ends_what_takes_too_long(serve):
    service, client = serve("--grace", 0)
    with client.stream("GET", LONG) as film:
        events = film.iter_lines()  # kept: httpx hangs up when it is collected
        assert next(events) == "event: progress"
        films = programs_of(service.pid, "film")
        assert ended(service)
    assert_gone(films)
