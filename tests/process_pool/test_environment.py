"""What this process has changed since its workers started holds for commands; and what it is short of."""

import asyncio
import errno
import os
import resource

import pytest
from contract.support import helper

from aiocmdpool.backends.workers import reply
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError

from .support import hold, in_background, outcome, pairs, sh

pytestmark = pytest.mark.slow


def variables(output: bytes) -> dict[bytes, bytes]:
    found = dict(item.split(b"=", 1) for item in output.split(b"\0") if item)
    found.pop(b"AIOCMDPOOL_RUN")
    return found


async def test_the_environment_is_that_of_the_moment(new_pool, monkeypatch):
    monkeypatch.setenv("AIOCMDPOOL_BEFORE", "kept")
    monkeypatch.setenv("AIOCMDPOOL_REMOVED", "1")
    monkeypatch.setenv("AIOCMDPOOL_CHANGED", "1")
    pool = new_pool(1)
    given = dict(os.environb)
    assert variables((await pool.execute(helper("print_env"))).stdout) == given
    monkeypatch.setenv("AIOCMDPOOL_NEW", "a=b\nc")
    monkeypatch.setenv("AIOCMDPOOL_CHANGED", "2")
    monkeypatch.delenv("AIOCMDPOOL_REMOVED")
    assert variables((await pool.execute(helper("print_env"))).stdout) == dict(os.environb)
    more = helper("print_env", env={"AIOCMDPOOL_NEW": "3", "AIOCMDPOOL_BEFORE": None})
    seen = variables((await pool.execute(more)).stdout)
    expected = {**os.environb, b"AIOCMDPOOL_NEW": b"3"}
    del expected[b"AIOCMDPOOL_BEFORE"]
    assert seen == expected
    only = variables((await pool.execute(helper("print_env", inherit_env=False, env={"A": "1"}))).stdout)
    assert only == {b"A": b"1"}
    monkeypatch.undo()
    monkeypatch.setenv("AIOCMDPOOL_BEFORE", "kept")
    assert variables((await pool.execute(helper("print_env"))).stdout) == dict(os.environb)


async def test_the_search_path_is_that_of_the_moment(new_pool, monkeypatch, tmp_path):
    pool = new_pool(1)
    (tmp_path / "some-tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "some-tool").chmod(0o755)
    assert isinstance(await outcome(pool.execute(CommandConfig("some-tool"))), IoError)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (await pool.execute(CommandConfig("some-tool"))).stdout == b"found\n"


async def test_the_directory_is_that_of_the_moment(new_pool, monkeypatch, tmp_path):
    pool = new_pool(1)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    assert (await pool.execute(CommandConfig("pwd", ["-P"]))).text().strip() == str((tmp_path / "one").resolve())
    monkeypatch.chdir(tmp_path / "two")
    assert (await pool.execute(CommandConfig("pwd", ["-P"]))).text().strip() == str((tmp_path / "two").resolve())
    await pool.execute(CommandConfig("touch", ["here"]))
    assert (tmp_path / "two" / "here").exists()


async def test_a_directory_that_was_removed_before_the_workers_started_is_no_trouble(new_pool, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    home.rmdir()
    pool = new_pool(1)
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"
    assert (await pool.execute(CommandConfig("pwd", ["-P"], cwd=tmp_path))).text().strip() == str(tmp_path.resolve())
    monkeypatch.chdir(tmp_path)
    assert (await pool.execute(CommandConfig("pwd", ["-P"]))).text().strip() == str(tmp_path.resolve())


async def test_a_directory_that_was_removed_later_is_no_trouble(new_pool, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    pool = new_pool(1)
    assert (await pool.execute(CommandConfig("pwd", ["-P"]))).text().strip() == str(home.resolve())
    home.rmdir()
    assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"


async def test_a_directory_that_was_made_anew_under_its_old_name_is_the_new_one(new_pool, monkeypatch, tmp_path):
    """As a deployment does it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    home.rmdir()
    home.mkdir()
    monkeypatch.chdir(home)
    assert (await pool.execute(CommandConfig("touch", ["here"]))).returncode == 0
    assert (home / "here").exists()


# -- without descriptors ----


@pytest.fixture
def no_descriptors():
    """Call it, and nothing can be opened in this process until the end of the test, or until `.back()`."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)

    class Limits:
        def __call__(self) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))

        def back(self) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)

    limits = Limits()
    yield limits
    limits.back()


async def test_commands_run_in_a_host_without_descriptors(new_pool, no_descriptors):
    pool = new_pool(2)
    await asyncio.gather(*(pool.execute(CommandConfig("true")) for _ in range(4)))
    no_descriptors()
    ends = await asyncio.gather(*in_background(pool, *[CommandConfig("cat", stdin=b"in")] * 10))
    assert {end.stdout for end in ends} == {b"in"}


async def test_large_input_in_a_host_without_descriptors_is_an_error_before_the_start(
    new_pool, no_descriptors, tmp_path
):
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    no_descriptors()
    error = await outcome(pool.execute(CommandConfig("touch", [str(tmp_path / "mark")], stdin=bytes(100_000))))
    no_descriptors.back()
    assert isinstance(error, IoError)
    assert error.errno == errno.EMFILE
    assert not (tmp_path / "mark").exists()
    assert pool.statistics().lost == 0


async def test_large_output_that_a_host_without_descriptors_cannot_take_costs_its_command_alone(
    new_pool, no_descriptors, ready, release
):
    pool = new_pool(1)
    [other] = in_background(pool, hold(ready, release))
    await pairs(ready, 1)
    script = 'echo >"$1"; read x <"$2"; head -c 200000 /dev/zero'
    [large] = in_background(pool, sh(script, ready.path, release.path))
    await ready.wait()
    no_descriptors()
    release.send()
    release.send()
    ends = [await other, await large]
    no_descriptors.back()
    assert ends[0].stdout == b"held\n"
    assert isinstance(ends[1], IoError)
    assert ends[1].errno == errno.EMFILE
    assert pool.statistics().lost == 0
    assert len((await pool.execute(sh("head -c 200000 /dev/zero"))).stdout) == 200_000


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (OSError(errno.EMFILE, "Too many open files", "anyio/_backends/__init__.py"), "ulimit -n"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
async def test_large_output_for_which_no_thread_can_be_had_costs_its_command_alone(
    new_pool, monkeypatch, failure, word
):
    async def no_thread(_: object) -> None:
        raise failure

    pool = new_pool(1)
    monkeypatch.setattr(reply, "in_thread", no_thread)
    error = await outcome(pool.execute(sh("head -c 3000000 /dev/zero")))
    monkeypatch.undo()
    assert isinstance(error, IoError)
    assert "it has run, but its large output could not be received" in str(error)
    assert word in str(error)
    assert len((await pool.execute(sh("head -c 3000000 /dev/zero"))).stdout) == 3_000_000
