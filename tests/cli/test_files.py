"""No file is read and written at once, none is written by two, and none is emptied that is something else."""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import NamedPipe

from cli.support import CLI, DEADLINE, environment, run_cli, running_cli

pytestmark = pytest.mark.slow

LIST = b"1\n2\n3\n"


def in_shell(line: str, directory: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run a shell's line in which `RUN` stands for `aiocmdpool run`."""
    script = line.replace("RUN", " ".join(CLI))
    return subprocess.run(
        ["/bin/sh", "-c", script], cwd=directory, env=environment(), capture_output=True, timeout=DEADLINE
    )


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "list").write_bytes(LIST)
    os.symlink("list", tmp_path / "symlink")
    os.link(tmp_path / "list", tmp_path / "hardlink")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "RUN -a list --joblog list touch ran",
        "RUN --joblog list touch ran < list",
        "RUN -a list --joblog symlink touch ran",
        "RUN -a symlink --joblog ./hardlink touch ran",
        "RUN -a list --resume --joblog hardlink touch ran",
        "RUN -a list --trace list touch ran",
        "RUN --trace hardlink touch ran < list",
        "RUN -a list touch ran >> list",
        "RUN touch ran < list >> symlink",
        "RUN -a list touch ran 2>> list",
        "RUN -a /dev/stdin --joblog list touch ran < list",
        "RUN --joblog list touch ran :::: list",
    ],
)
def test_what_is_read_is_not_written(line: str, lists: Path) -> None:
    run = in_shell(line, lists)
    assert run.returncode == 255
    # Where standard error is the file itself, the message is all that may come to it.
    said = run.stderr or (lists / "list").read_bytes().removeprefix(LIST)
    assert b"is the same file as" in said
    assert b"which is being read; name another file\n" in said
    assert (lists / "list").read_bytes() == LIST + (b"" if run.stderr else said)
    assert not (lists / "ran").exists()


@pytest.mark.parametrize(
    "line",
    [
        "RUN --joblog new --trace new touch ran ::: a",
        "RUN --joblog new --trace ./new touch ran ::: a",
        "RUN --joblog new touch ran ::: a > new",
        "RUN --trace new touch ran ::: a > new",
        "RUN --joblog new touch ran ::: a 2> err > new",
        "RUN --joblog /dev/stdout touch ran ::: a > new",
    ],
)
def test_two_outputs_are_not_one_file(line: str, tmp_path: Path) -> None:
    run = in_shell(line, tmp_path)
    assert run.returncode == 255
    said = run.stderr or (tmp_path / "err").read_bytes()
    assert b"is the same file as" in said
    assert not (tmp_path / "ran").exists()


def test_standard_output_and_error_may_well_be_one_file(tmp_path: Path) -> None:
    run = in_shell("RUN --shell 'echo {}; echo {} >&2' ::: a > both 2>&1", tmp_path)
    assert run.returncode == 0
    assert (tmp_path / "both").read_bytes() == b"a\na\n"


def test_devices_and_pipes_may_be_shared(tmp_path: Path) -> None:
    assert run_cli("--joblog", "/dev/null", "echo", ":::", "a", stdin=b"").returncode == 0
    assert in_shell("RUN --joblog /dev/null echo ::: a < /dev/null > /dev/null", tmp_path).returncode == 0


@pytest.mark.parametrize("option", ["--joblog", "--trace"])
@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resume"])
def test_two_runs_do_not_share_a_file(
    option: str, resume: list[str], tmp_path: Path, ready: NamedPipe, release: NamedPipe
) -> None:
    path = tmp_path / "file"
    extra = ["--joblog", str(tmp_path / "other")] if resume and option == "--trace" else []
    script = f"echo > {ready.path}; read x < {release.path}; : {{}}"
    with running_cli(option, path, "--shell", script, ":::", "a") as first:
        ready.wait_blocking()
        before = path.read_bytes()
        second = run_cli(*resume, *extra, option, path, "touch", ":::", tmp_path / "ran")
        assert second.returncode == 255
        assert f"is being written by process {first.pid} (".encode() in second.stderr
        assert path.read_bytes() == before
        assert not (tmp_path / "ran").exists()
        release.send()
        assert first.wait(DEADLINE) == 0
    assert run_cli(option, path, "true", ":::", "a").returncode == 0


def test_a_run_that_was_killed_holds_no_file(tmp_path: Path, ready: NamedPipe) -> None:
    log = tmp_path / "log"
    with running_cli("--joblog", log, "--shell", f"echo > {ready.path}; exec sleep 60 #", ":::", "a") as process:
        ready.wait_blocking()
        process.kill()
        process.wait()
    assert run_cli("--resume", "--joblog", log, "true", ":::", "a").returncode == 0


@pytest.mark.parametrize(("option", "what"), [("--joblog", b"job log"), ("--trace", b"trace")])
def test_what_is_something_else_is_not_emptied(option: str, what: bytes, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_bytes(b"precious\n")
    run = run_cli(option, thesis, "touch", ":::", tmp_path / "ran")
    assert run.returncode == 255
    assert b"exists and is no %s; remove it, or name another file" % what in run.stderr
    assert thesis.read_bytes() == b"precious\n"
    assert not (tmp_path / "ran").exists()
