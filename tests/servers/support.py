"""Servers as processes of their own, on a port of loopback that was free."""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import psutil
from contract.support import HOST_DEADLINE, host_environment, is_dead

PATIENCE = 30.0  # seconds for a server to answer
DIES_WITHIN = 5.0  # seconds; without a supervisor's help


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server that runs.

    Args:
        argv: Behind the interpreter and `-m`.
        port: Where it listens.
        environment: Added to that of the tests.
    """

    def __init__(self, argv: list[str], port: int, **environment: str) -> None:
        self.port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with it
        self._process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=host_environment() | environment,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def get(self, path: str, seconds: float = PATIENCE) -> str:
        """The body of an answer with status 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == 200, f"{response.status} {body}\n{self.log()}"
            return body

    @contextlib.contextmanager
    def asked_in_vain(self, path: str) -> Iterator[None]:
        """Ask for what will never be answered, for as long as the body takes and the server holds the connection."""

        def ask() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                self.get(path)

        asking = threading.Thread(target=ask)
        asking.start()
        yield
        asking.join(2 * PATIENCE)
        assert not asking.is_alive()

    def wait_until_it_answers(self, path: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.get(path)
                return
            except (OSError, http.client.HTTPException):
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> list[psutil.Process]:
        """End it; return what was below it."""
        below = psutil.Process(self.pid).children(recursive=True)
        self._process.send_signal(number)
        self._process.wait(HOST_DEADLINE)
        return below

    def close(self) -> None:
        if self._process.poll() is None:
            below = psutil.Process(self.pid).children(recursive=True)
            self._process.kill()
            self._process.wait()
            for process in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._log.close()


@contextlib.contextmanager
def serving(*argv: str, path: str, port: int, **environment: str) -> Iterator[Server]:
    """Start a server, and wait until it answers at a path."""
    server = Server(list(argv), port, **environment)
    try:
        server.wait_until_it_answers(path)
        yield server
    finally:
        server.close()


def assert_dies(pid: int) -> None:
    """That a process ends by itself within a few seconds."""
    deadline = time.monotonic() + DIES_WITHIN
    while not is_dead(pid):
        assert time.monotonic() < deadline, psutil.Process(pid)
        time.sleep(0.02)


def assert_all_gone(processes: list[psutil.Process]) -> None:
    """That processes end by themselves within a few seconds."""
    _, alive = psutil.wait_procs(processes, timeout=DIES_WITHIN)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
