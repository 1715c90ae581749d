"""The timeline: every task in it, truly, in rows in which nothing overlaps."""

import errno
import itertools
import json
import os

import pytest
from contract.support import sh
from hypothesis import given, settings
from hypothesis import strategies as st
from pool.support import HeldExecutor, named

from aiocmdpool import CommandConfig
from aiocmdpool.observability import chrome_trace, trace_file
from aiocmdpool.observability.chrome_trace import ChromeTrace, _Rows

from .support import Recorder, hold, settled

pytestmark = pytest.mark.slow


def read(path):
    return json.loads(path.read_text())


def of_kind(events, kind):
    return [event for event in events if event["ph"] == kind]


def assert_rows_do_not_overlap(events):
    rows = {}
    for run in of_kind(events, "X"):
        rows.setdefault(run["tid"], []).append((run["ts"], run["ts"] + run["dur"]))
    for runs in rows.values():
        for before, after in itertools.pairwise(sorted(runs)):
            assert before[1] <= after[0]


async def test_every_run_and_every_wait_is_in_it(running_pool, tmp_path):
    seen, path = Recorder(), tmp_path / "trace"
    with ChromeTrace(path, name="these tests") as trace:
        pool = await running_pool(seen, trace, limit=3)
        handles = await pool.push_tasks(sh("exit 3", label=f"job {number}") for number in range(20))
        await settled(*handles)
    events = read(path)
    runs, begins, ends = of_kind(events, "X"), of_kind(events, "b"), of_kind(events, "e")
    assert len(runs) == len(begins) == len(ends) == 20
    by_task = {run["args"]["task"]: run for run in runs}
    begun, ended = {wait["id"]: wait for wait in begins}, {wait["id"]: wait for wait in ends}
    for number, handle in enumerate(handles):
        run, finished = by_task[handle.id], seen.finished(handle)
        assert run["name"] == f"job {number}"
        assert run["ts"] == int(finished.started_at * 1e6)
        assert run["ts"] + run["dur"] == int(finished.time * 1e6)
        assert (begun[handle.id]["ts"], ended[handle.id]["ts"]) == (int(finished.pushed_at * 1e6), run["ts"])
        assert run["args"]["run_ms"] == pytest.approx(finished.run * 1e3, abs=1e-3)
        assert (run["args"]["returncode"], run["args"]["status"]) == (3, "completed")
        assert run["args"]["end_reason"] == "exited"
    assert_rows_do_not_overlap(events)
    assert {run["tid"] for run in runs} <= {1, 2, 3}
    names = {event["tid"]: event["args"]["name"] for event in of_kind(events, "M")}
    assert names == {0: "these tests", **{row: f"slot {row}" for row in {run["tid"] for run in runs}}}
    assert {event["pid"] for event in events} == {os.getpid()}


async def test_commands_that_overlap_have_rows_of_their_own(running_pool, tmp_path):
    held = HeldExecutor()
    with ChromeTrace(tmp_path / "trace") as trace:
        pool = await running_pool(trace, executor=held, limit=3)
        handles = await pool.push_tasks(map(named, "abcde"))
        await held.holds("a", "b", "c")
        held.release("b")
        await held.holds("a", "c", "d")
        held.release("c", "a")
        await held.holds("d", "e")
        held.release("d", "e")
        await settled(*handles)
    events = read(tmp_path / "trace")
    assert_rows_do_not_overlap(events)
    rows = {run["name"]: run["tid"] for run in of_kind(events, "X")}
    assert len({rows[name] for name in "abc"}) == 3
    assert rows["d"] == rows["b"]  # whose place it took
    assert set(rows.values()) == {1, 2, 3}


async def test_two_pools_in_one_trace(running_pool, tmp_path):
    held = HeldExecutor()
    with ChromeTrace(tmp_path / "trace") as trace:
        one = await running_pool(trace, executor=held)
        two = await running_pool(trace, executor=held)
        handles = [one.try_push_task(named("a")), two.try_push_task(named("b"))]
        await held.holds("a", "b")
        held.release("a", "b")
        await settled(*handles)
    assert {run["tid"] for run in of_kind(read(tmp_path / "trace"), "X")} == {1, 2}


async def test_a_task_that_never_started_is_only_a_wait(running_pool, tmp_path, ready, release):
    with ChromeTrace(tmp_path / "trace") as trace:
        pool = await running_pool(trace)
        running, waiting = await pool.push_tasks([hold(ready, release), sh("exit 0")])
        await ready.wait()
        waiting.cancel()
        release.send()
        await running
    events = read(tmp_path / "trace")
    assert [run["args"]["task"] for run in of_kind(events, "X")] == [running.id]
    assert {wait["id"]: wait["args"]["status"] for wait in of_kind(events, "b")} == {
        running.id: "completed",
        waiting.id: "cancelled",
    }


async def test_what_a_command_line_may_hold(running_pool, tmp_path):
    odd = 'quote " backslash \\ newline \n snow ☃ nothing \udcff control \x01'
    with ChromeTrace(tmp_path / "trace") as trace:
        pool = await running_pool(trace)
        await pool.execute(CommandConfig("true", label=odd))
        await settled(await pool.push_task(CommandConfig("no-such-program-here", [odd])))
    events = read(tmp_path / "trace")
    assert of_kind(events, "X")[0]["name"] == odd
    assert "returncode" not in of_kind(events, "X")[1]["args"]


async def test_secrets_are_not_in_it(running_pool, tmp_path):
    with ChromeTrace(tmp_path / "trace") as trace:
        pool = await running_pool(trace)
        await pool.execute(sh("cat", stdin=b"hunter-two", env={"TOKEN": "hunter-two"}))
    assert "hunter" not in (tmp_path / "trace").read_text()


async def test_it_is_valid_while_it_grows_and_its_buffer_is_bounded(running_pool, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_file, "BUFFER_LIMIT", 2000)
    monkeypatch.setattr(chrome_trace, "BATCH", 3)
    path, waiting = tmp_path / "trace", []
    with ChromeTrace(path) as trace:

        def look(event):
            read(path)
            waiting.append((len(trace._notes), trace._file._size))

        pool = await running_pool(trace, look, limit=4)
        await settled(*await pool.push_tasks(sh("exit 0") for _ in range(30)))
        assert 0 < len(of_kind(read(path), "X")) <= 30
        assert max(notes for notes, _ in waiting) < 3
        assert max(size for _, size in waiting) < 2000
    assert len(of_kind(read(path), "X")) == 30


async def test_events_after_its_end_are_ignored(running_pool, tmp_path):
    trace = ChromeTrace(tmp_path / "trace")
    pool = await running_pool(trace)
    trace.close()
    trace.close()
    await pool.execute(sh("exit 0"))
    assert of_kind(read(tmp_path / "trace"), "X") == []


@pytest.mark.parametrize("told", [False, True])
async def test_a_full_disk_breaks_no_run(running_pool, tmp_path, monkeypatch, caplog, told):
    errors = []
    trace = ChromeTrace(tmp_path / "trace", on_error=errors.append if told else None)
    pool = await running_pool(trace)
    await pool.execute(sh("exit 0"))  # flushed at once: it is the first in a long time

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trace_file, "BUFFER_LIMIT", 1)
    monkeypatch.setattr(chrome_trace, "BATCH", 1)
    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(3):
        await pool.execute(sh("exit 0"))
    monkeypatch.undo()
    trace.close()
    assert len(of_kind(read_cut(tmp_path / "trace"), "X")) == 1
    assert [error.errno for error in errors] == [errno.ENOSPC] * told
    assert len([record for record in caplog.records if record.name == "aiocmdpool.hooks"]) == (not told)


def read_cut(path):
    """As viewers do: the bracket that a really full disk has room for, it could not overwrite here, may be missing."""
    text = path.read_text()
    return json.loads(text if text.endswith("]\n") else text + "]")


@settings(deadline=None, max_examples=300, derandomize=True, database=None)
@given(runs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=40))
def test_rows_whatever_overlaps(runs):
    """No two runs in a row overlap, and there are no more rows than runs that overlap at some moment."""
    rows, placed = _Rows(), []
    for start, end in sorted(((start, start + length) for start, length in runs), key=lambda run: run[1]):
        row, is_new = rows.place(start, end)
        assert is_new == (row not in {other for other, _, _ in placed})
        assert all(other != row or other_end <= start for other, _, other_end in placed)
        placed.append((row, start, end))
    longer = [(start, end) for _, start, end in placed if start < end]
    most = max((sum(s <= at < e for s, e in longer) for at, _ in longer), default=0)
    if len(longer) == len(placed):
        assert len({row for row, _, _ in placed}) == most
