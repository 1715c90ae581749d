"""The job log: records, and what a run learns from a log that was cut, damaged or never one."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocmdpool.cli.job_log import JobLogError, JobRecord, begin_job_log, open_job_log
from aiocmdpool.cli.resume import Occurrences, Resume, read_job_log

TEXTS = st.binary(max_size=20).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)


def record(number: int, text: str = "x", exit_status: int | None = 0, end_reason: str = "exited") -> JobRecord:
    return JobRecord(
        seq=number,
        input=text,
        command=["echo", text],
        start=1.0,
        runtime=0.5,
        exit=exit_status,
        signal=None if exit_status is not None else 15,
        end_reason=end_reason,
        attempts=1,
        stdout_bytes=2,
        stderr_bytes=0,
        error=None,
    )


def log_of(path: Path, *records: JobRecord) -> Path:
    path.write_bytes(b"".join(each.line() for each in records))
    return path


def test_a_record_is_one_line_of_json() -> None:
    line = record(3, "a\nb\udcff").line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    fields = json.loads(line)
    assert fields["seq"] == 3
    assert fields["input"] == "a\nb\udcff"
    assert fields["command"] == ["echo", "a\nb\udcff"]


def test_a_log_that_does_not_exist_says_nothing(tmp_path: Path) -> None:
    jobs = read_job_log(str(tmp_path / "none"))
    assert not jobs.covers(1, ["echo", "x"], Resume.DONE)
    assert not jobs.warnings


def test_resume_skips_what_ended_and_resume_failed_only_what_succeeded(tmp_path: Path) -> None:
    killed = record(3, exit_status=None, end_reason="cancelled")
    jobs = read_job_log(str(log_of(tmp_path / "log", record(1), record(2, exit_status=4), killed)))
    assert [jobs.covers(n, ["echo", "x"], Resume.DONE) for n in (1, 2, 3, 4)] == [True, True, False, False]
    assert [jobs.covers(n, ["echo", "x"], Resume.SUCCEEDED) for n in (1, 2, 3, 4)] == [True, False, False, False]
    assert not jobs.covers(1, ["echo", "x"], Resume.NOTHING)


def test_another_command_under_the_same_number_is_not_done(tmp_path: Path) -> None:
    jobs = read_job_log(str(log_of(tmp_path / "log", record(1))))
    assert not jobs.covers(1, ["echo", "y"], Resume.DONE)
    assert not jobs.covers(2, ["echo", "x"], Resume.DONE)


def test_the_last_record_of_a_number_counts(tmp_path: Path) -> None:
    jobs = read_job_log(
        str(log_of(tmp_path / "log", record(1, exit_status=1), record(2), record(1), record(2, exit_status=1)))
    )
    assert jobs.covers(1, ["echo", "x"], Resume.SUCCEEDED)
    assert not jobs.covers(2, ["echo", "x"], Resume.SUCCEEDED)
    assert jobs.covers(2, ["echo", "x"], Resume.DONE)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), data=st.data())
def test_a_log_cut_anywhere_keeps_what_stands_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    records = [record(number, text) for number, text in enumerate(texts, 1)]
    whole = b"".join(each.line() for each in records)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    survivors = whole[:cut].count(b"\n")

    jobs = read_job_log(str(path))
    assert not jobs.warnings
    assert jobs.ends_cut == (cut > 0 and whole[cut - 1 : cut] != b"\n")
    occurrences = Occurrences()
    counts = [occurrences.next(each.command) for each in records]
    covered = [jobs.covers(count, each.command, Resume.DONE) for count, each in zip(counts, records, strict=True)]
    assert covered == [number <= survivors for number in range(1, len(records) + 1)]

    # Going on from there loses no record, old or new, however often it is cut.
    fd = open_job_log(str(path), keep=True)
    begin_job_log(fd, str(path), keep=True, ends_cut=jobs.ends_cut)
    for each in records[survivors:]:
        os.write(fd, each.line())
    os.close(fd)
    again = read_job_log(str(path))
    assert all(again.covers(count, each.command, Resume.DONE) for count, each in zip(counts, records, strict=True))


def test_damaged_lines_are_warned_of_and_not_done(tmp_path: Path) -> None:
    path = tmp_path / "log"
    damaged = [
        b"{garbage\n",
        b"[]\n",
        b'{"seq": "1", "command": [], "exit": 0, "end_reason": "exited"}\n',
        b"\xff\n",
        b"\n",
    ]
    path.write_bytes(record(1).line() + b"".join(damaged) + record(2).line())
    jobs = read_job_log(str(path))
    assert jobs.covers(1, ["echo", "x"], Resume.DONE)
    assert jobs.covers(2, ["echo", "x"], Resume.DONE)
    assert len(jobs.warnings) == 4
    assert f"{path}, line 2: no job record" in jobs.warnings[0]
    assert "2 more" in jobs.warnings[-1]


def test_a_file_that_is_no_job_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("precious\nwords\n")
    with pytest.raises(JobLogError, match="is no job log"):
        read_job_log(str(path))
    assert path.read_text() == "precious\nwords\n"


def test_a_log_that_cannot_be_read_or_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobLogError, match="Is a directory"):
        read_job_log(str(tmp_path))
    with pytest.raises(JobLogError, match="No such file or directory"):
        open_job_log(str(tmp_path / "none" / "log"), keep=False)


def test_a_log_is_started_anew_unless_it_is_continued(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", record(1))
    for keep in (True, False):
        fd = open_job_log(str(path), keep=keep)
        assert path.stat().st_size  # nothing is lost by opening it
        begin_job_log(fd, str(path), keep=keep)
        os.close(fd)
        assert bool(path.stat().st_size) == keep
