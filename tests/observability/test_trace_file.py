"""The array in a file: valid JSON at every moment, whatever is appended, and whatever goes wrong."""

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocmdpool.observability.trace_file import BUFFER_LIMIT, JsonArrayFile

pytestmark = pytest.mark.slow


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(steps=st.lists(st.one_of(st.text(max_size=30), st.none()), max_size=30))
def test_it_holds_what_was_appended_after_every_flush(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("trace") / "file"
    file = JsonArrayFile(path)
    flushed, waiting = [], []
    for step in steps:
        if step is None:
            file.flush()
            flushed, waiting = flushed + waiting, []
        else:
            file.append(json.dumps(step))
            waiting.append(step)
        assert json.loads(path.read_text()) == flushed
    file.close()
    assert json.loads(path.read_text()) == flushed + waiting


def test_it_says_when_enough_waits(tmp_path):
    file = JsonArrayFile(tmp_path / "file")
    assert not file.append('"short"')
    assert file.append(json.dumps("x" * BUFFER_LIMIT))
    file.close()


def test_it_begins_anew(tmp_path):
    path = tmp_path / "file"
    path.write_text("something longer than an empty array")
    JsonArrayFile(path).close()
    assert json.loads(path.read_text()) == []


def test_closing_twice_is_harmless(tmp_path):
    file = JsonArrayFile(tmp_path / "file")
    file.close()
    file.close()


@pytest.mark.parametrize(
    ("name", "number"), [("none/file", errno.ENOENT), ("pipe", errno.ENXIO), ("", errno.EISDIR), ("full", errno.ENOSPC)]
)
def test_what_cannot_be_written_is_an_error_at_once(tmp_path, name, number):
    os.mkfifo(tmp_path / "pipe")
    path = "/dev/full" if name == "full" else tmp_path / name
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        JsonArrayFile(path)
    assert caught.value.errno == number


def test_a_pipe_with_a_reader_is_an_error_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ESPIPE)):
            JsonArrayFile(tmp_path / "pipe")
    finally:
        os.close(reader)


def test_a_write_that_fails_leaves_valid_json(tmp_path, monkeypatch):
    """Half of it is on the disk when there is no room for the rest."""
    path = tmp_path / "file"
    file = JsonArrayFile(path)
    file.append('"kept"')
    file.flush()
    pwrite, calls = os.pwrite, []

    def fails_in_the_middle(fd, data, offset):
        calls.append(len(data))
        if len(calls) == 1:
            return pwrite(fd, bytes(data)[:5], offset)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", fails_in_the_middle)
    file.append('"lost, and so much of it that it does not fit"')
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.flush()
    assert json.loads(path.read_text()) == ["kept"]
    file.append('"later"')
    file.close()
    assert json.loads(path.read_text()) == ["kept", "later"]
