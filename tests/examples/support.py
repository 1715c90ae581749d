"""An example as a process of its own: started, heard, used and ended as its reader would."""

import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from contract.support import DYING, HOST_DEADLINE, host_environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE = 20.0  # seconds for a line that is to come


class Running:
    """A process that was started, and what it says."""

    def __init__(self, argv, **environment):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads could fill
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=host_environment() | environment,
            bufsize=0,
        )
        self._heard = b""
        self.pid = self._process.pid

    def say(self, line):
        self._process.stdin.write(line.encode() + b"\n")

    def line(self):
        """The next line on stdout; empty at the end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._heard:
                assert selector.select(PATIENCE), f"no line within {PATIENCE} s; on stderr: {self.errors()}"
                data = self._process.stdout.read(65536)
                if not data:
                    return ""
                self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def line_with(self, pattern):
        """The match of a pattern in one of the next lines."""
        seen = []
        while line := self.line():
            seen.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line with {pattern!r} in {seen}; on stderr: {self.errors()}")

    def rest(self):
        """Whatever it says from here to the end."""
        lines = []
        while line := self.line():
            lines.append(line)
        return lines

    def errors(self):
        self._errors.seek(0)
        return self._errors.read().decode()

    def end_of_input(self):
        self._process.stdin.close()

    def send_signal(self, number=signal.SIGTERM):
        self._process.send_signal(number)

    def wait(self):
        """Its exit status, once it and all that it had started are gone."""
        return self._process.wait(HOST_DEADLINE)

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            stream.close()


def example_argv(name, *arguments):
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def programs_of(pid, words):
    """The processes below one whose command lines have these words in them."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def assert_gone(processes):
    """That they are gone, or are within a moment: somebody else may have to reap them."""
    _, alive = psutil.wait_procs(processes, timeout=DYING)
    assert not alive


def soon(condition):
    """That something becomes true without any event that a test could wait for."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        time.sleep(0.01)
