"""Runs one peer in one scenario, in a process of its own, and counts from outside what is left."""

import dataclasses
import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from benchmarks import child
from benchmarks.survivors.marks import DURATION, kill_all, living, make_mark
from benchmarks.survivors.peers import Peer
from benchmarks.survivors.scenarios import PROGRAMS, Scenario

if TYPE_CHECKING:
    import subprocess

HOST = "benchmarks.survivors.host"
START_LIMIT = 20.0  # seconds until everything runs
PATIENCE = 12.0  # seconds for the peer, from then on
SETTLE = 0.2  # seconds between the answer and the count: what was killed has to die first
SETTLE_ALONE = 1.5  # seconds between the death of the caller and the count
POLL = 0.01  # seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What one measurement found."""

    peer: str
    scenario: str
    survivors: int
    """Processes of the command that lived when the peer had returned, or was given up."""
    seconds: float | None
    """Until the peer returned; `None` if it did not, or was killed as the scenario has it."""
    outcome: str
    """The name of the exception; `returned`; or what was done to the peer."""

    @property
    def hangs(self) -> bool:
        """Whether the peer only came back because the programs ended by themselves, or not at all."""
        return self.outcome == "given up" or (self.seconds is not None and self.seconds > DURATION - 0.5)


def measure(peer: Peer, scenario: Scenario) -> Survey:
    """Run it.

    Raises:
        child.MeasurementFailed: The programs were never seen running together.
    """
    mark = make_mark()
    process = child.start(HOST, [peer.name, scenario.name])
    try:
        assert process.stdin is not None
        process.stdin.write(f"{mark}\n")
        process.stdin.close()
        _wait_until_running(process, mark)
        if scenario.host_killed:
            os.kill(process.pid, signal.SIGKILL)
            time.sleep(SETTLE_ALONE)
            return Survey(peer.name, scenario.name, len(living(mark)), None, "killed")
        seconds, outcome = _wait_for_answer(process)
        return Survey(peer.name, scenario.name, len(living(mark)), seconds, outcome)
    finally:
        _leave_nothing(process, mark)


def _wait_until_running(process: "subprocess.Popen[str]", mark: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while len(living(mark)) < PROGRAMS:
        if _has_answered(process, POLL) or time.monotonic() > deadline:
            process.kill()
            stdout, stderr = _drain(process)
            raise child.MeasurementFailed(f"nothing ran: {child.last_line(stderr or stdout)}")


def _wait_for_answer(process: "subprocess.Popen[str]") -> tuple[float | None, str]:
    if not _has_answered(process, PATIENCE):
        return None, "given up"
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise child.MeasurementFailed("the process that called the peer died")
    said = json.loads(line)
    time.sleep(SETTLE)
    return float(said["seconds"]), str(said["outcome"])


def _has_answered(process: "subprocess.Popen[str]", seconds: float) -> bool:
    """Whether there is a line to read, or the end."""
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], seconds)[0])


def _drain(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it has said, after its end; its programs may hold the pipes, so not until theirs."""
    texts = []
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        try:
            texts.append(os.read(stream.fileno(), 65536).decode(errors="replace"))
        except BlockingIOError:
            texts.append("")
    return texts[0], texts[1]


def _leave_nothing(process: "subprocess.Popen[str]", mark: str) -> None:
    """End the caller first, so that it starts nothing more; then the programs, wherever they have gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # there is nobody left in its group, itself included
        pass
    finally:
        kill_all(mark)
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
