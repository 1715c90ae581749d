"""An exception in what a worker does for one run ends that run with an error that names it, and nothing else."""

import errno
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.support import is_dead

import aiocmdpool.standalone
from aiocmdpool.standalone.wire import frames, messages

from . import fake_parent
from .fake_parent import FakeParent
from .support import assert_all_die

pytestmark = pytest.mark.slow

PATIENT = "sleep", "60"


@pytest.fixture
def broken(monkeypatch, tmp_path, request) -> Iterator[FakeParent]:
    """A worker in which one place raises for every run whose program is called `sh`."""
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fake_parent, "FOLDER", str(folder))
    request.param(folder / "worker")
    with FakeParent() as parent:
        yield parent


def raising(name: str, before: str, condition: str):
    """A change of a file: raise ahead of a line, on a condition."""

    def change(folder: Path) -> None:
        source = (folder / name).read_text()
        assert source.count(before) == 1
        indent = source[: source.index(before)].rpartition("\n")[2]
        text = f'if {condition}:\n{indent}    raise RuntimeError("as the test wants")\n{indent}{before}'
        (folder / name).write_text(source.replace(before, text))

    return change


MINE = 'request.argv[0] == b"sh"'
PLACES = {
    "start": ("spawn.py", "key = _places_of(request, environment)", MINE),
    "read": ("run.py", "self._last_output = monotonic()\n        output.read()", f"self.{MINE}"),
    "exit": ("run.py", "self.status, self.usage = status, usage", f"self.{MINE}"),
    "deadline": ("run.py", "left = self.started_at + EXEC_TIMEOUT", f"self.{MINE}"),
    "settling": ("run.py", "if self._leftovers is None and (", f"self.{MINE}"),
    "reply": ("replies.py", "usage, flags = run.usage", f"run.{MINE}"),
}


@pytest.mark.parametrize("broken", [pytest.param(raising(*PLACES[name]), id=name) for name in PLACES], indirect=True)
def test_a_fault_in_one_run_ends_that_run_alone(broken, ready):
    broken.start(1, *PATIENT)
    neighbour = broken.started(1)
    script = 'echo $$ >"$1"; echo out; exec sleep 60'
    for number in (2, 3):
        broken.start(number, "sh", "-c", script, "sh", ready.path, timeout=0.2)
        stage = broken.failure(number)[1]
        assert stage == "worker: RuntimeError: as the test wants"
    assert_all_die(*map(int, ready.heard()))
    assert not is_dead(neighbour)
    assert "RuntimeError: as the test wants" in broken.last_words()
    broken.start(4, "echo", "well")
    assert broken.result(4).stdout == b"well\n"
    broken.cancel(1)
    assert broken.result(1).returncode == -signal.SIGTERM
    assert broken.answers()


DEATHS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "exits": "os._exit(0)",
    "fails": "raise OverflowError",
}


@pytest.mark.parametrize("flags", [0, messages.DETACH], ids=["", "detach"])
@pytest.mark.parametrize("death", DEATHS)
def test_a_child_that_dies_before_its_exec_is_no_program_that_has_run(monkeypatch, tmp_path, death, flags):
    """Its pipe closes with its `exec`, and with its death just as well."""
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fake_parent, "FOLDER", str(folder))
    launcher = folder / "kernel" / "launcher.py"
    before, name, after = launcher.read_text().partition("        prepare(settings, report)\n")
    assert name
    launcher.write_text(f"{before}        {DEATHS[death]}\n{after}")
    with FakeParent() as parent:
        for number in (1, 2):
            options = {"flags": flags | messages.ANNOUNCE * (number == 2)}
            parent.start(number, "touch", tmp_path / "ran", settings=[b"umask=63"], **options)
            said = (errno.ERANGE, "program") if death == "fails" else (errno.EIO, "silence")
            kind, _, payload = parent.receive(kinds=(frames.STARTED, frames.EXIT, frames.FAILED), number=number)
            assert (kind, messages.unpack_failed(payload)) == (frames.FAILED, said)
    assert not (tmp_path / "ran").exists()


def test_a_dying_worker_takes_everything_along_though_one_step_of_that_fails(monkeypatch, tmp_path, ready):
    folder = tmp_path / "standalone"
    shutil.copytree(aiocmdpool.standalone.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    raising("server.py", "for run in list(self._runs.values()):\n            self._guard(run, run.kill)", "True")(
        folder / "worker"
    )
    monkeypatch.setattr(fake_parent, "FOLDER", str(folder))
    with FakeParent() as parent:
        script = 'setsid sleep 60 >/dev/null 2>&1 & echo $! >"$1"; echo $$ >"$1"; exec sleep 60'
        parent.start(1, "sh", "-c", script, "sh", ready.path, grace=60.0)
        pids = [int(ready.wait_blocking()) for _ in range(2)]
        parent.send_raw(b"this is no frame, so the worker dies of it" * 10)
        assert parent.wait() == 1
        assert_all_die(*pids)


def test_messages_of_a_fault_travel_as_they_are():
    packed = messages.pack_failed(0, "worker: ValueError: ä")
    assert messages.unpack_failed(packed) == (0, "worker: ValueError: ä")
