"""In a real uWSGI, whose executable is `sys.executable`, workers and launchers are run by the Python it belongs to."""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from pathlib import Path

import pytest
from contract.support import TESTS, adopting, host_environment

from .support import python_with, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

START_FOR = 60.0  # seconds


@pytest.fixture(scope="module")
def uwsgi(tmp_path_factory) -> "tuple[str, str]":
    """The server, and the root of the environment that it is to use."""
    if importlib.util.find_spec("uwsgidecorators") is not None:
        return shutil.which("uwsgi", path=sysconfig.get_path("scripts")) or "uwsgi", sys.prefix
    root = Path(python_with("uwsgi", "uwsgidecorators", tmp_path_factory.mktemp("uwsgi"))).parent.parent
    return str(root / "bin" / "uwsgi"), str(root)


def ask_twice(url: str, host: "subprocess.Popen[str]", answers: "list[list[str]]") -> None:
    while len(answers) < 2 and host.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=START_FOR) as answer:  # not up yet
            answers.append(answer.read().decode().splitlines())


@pytest.mark.parametrize("threads", [[], ["--enable-threads"]], ids=["no threads", "threads"])
def test_commands_run_in_a_request(uwsgi, threads, tmp_path):
    server, root = uwsgi
    path = tmp_path / "socket"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    package = host_environment()["PYTHONPATH"].split(":")[0]
    argv = [server, "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", str(TESTS / "embedded" / "wsgi.py")]
    argv += ["--master", "--die-on-term", "--need-app", "--pythonpath", package, "-H", root, *threads]
    log = path.with_suffix(".log").open("w+")
    with (
        log,
        adopting(),
        subprocess.Popen(argv, stdout=log, stderr=log, text=True) as host,
    ):
        answers: list[list[str]] = []
        client = threading.Thread(target=ask_twice, args=(f"http://127.0.0.1:{port}/", host, answers))
        client.start()
        try:
            watch(host, START_FOR, lambda: not client.is_alive())
        finally:
            host.terminate()
            host.wait(START_FOR)
            client.join()
    assert answers, Path(log.name).read_text()
    assert [line[1:] for line in answers] == [["single", "50"]] * 2
    assert answers[0][0] == server
