"""Which places in the file system answer at once: told by the table of mounts, remembered for a moment."""

import os

import pytest

from aiocmdpool.standalone.kernel import places
from aiocmdpool.standalone.kernel.places import Places, all_local, interpreter_of, local_mounts
from aiocmdpool.standalone.worker.spawn import Spawner

from .support import start_of

TABLE = rb"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /proc rw - proc proc rw
31 22 0:31 / /mnt/dead rw master:3 - nfs4 server:/export rw
32 31 0:32 / /mnt/dead/inner rw - tmpfs tmpfs rw
33 22 0:33 / /a\040blank\134 rw - fuse.sshfs host: rw
34 22 0:34 / /over rw - ext4 /dev/sdb rw
35 34 0:35 / /over rw - 9p share rw
""".lstrip()


@pytest.fixture
def mounts(monkeypatch, tmp_path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(TABLE)
    monkeypatch.setattr(places, "MOUNTS", str(table))


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("path", "local"),
    [
        (b"/usr", True),
        (b"/mnt", True),
        (b"/mnt/dead", False),
        (b"/mnt/dead/x/y", False),
        (b"/mnt/deadly", True),
        (b"/mnt/dead/inner/x", True),
        (b"/a blank\\/x", False),
        (b"/over/x", False),  # the last mount at a point hides the others
    ],
)
def test_the_mount_below_a_path_decides(path, local):
    assert all_local([path], b"") is local


def test_a_link_is_followed(tmp_path, monkeypatch, mounts):
    (tmp_path / "link").symlink_to("/mnt/dead/x")
    assert not all_local([os.fsencode(tmp_path / "link")], b"")
    assert not all_local([b"/usr"], os.fsencode(tmp_path / "link"))


def test_the_interpreter_of_a_script_counts(tmp_path, mounts):
    script, other = tmp_path / "script", tmp_path / "other"
    other.write_bytes(b"#!/mnt/dead/python -u\n")
    script.write_bytes(b"#! " + os.fsencode(other) + b" argument\n")
    assert interpreter_of(os.fsencode(script)) == os.fsencode(other)
    assert not all_local([b"/usr"], os.fsencode(script))
    other.write_bytes(b"\x7fELF")
    assert all_local([b"/usr"], os.fsencode(script))


@pytest.mark.parametrize("first", [b"", b"#!", b"#!\n", b"#!   \n", b"\x7fELF\n#!/x"])
def test_what_is_no_script_names_none(tmp_path, first):
    (tmp_path / "program").write_bytes(first)
    assert interpreter_of(os.fsencode(tmp_path / "program")) == b""
    assert interpreter_of(b"/no/such/program") == b""


def test_the_table_of_this_machine_is_understood():
    assert b"/" in local_mounts()


def test_without_a_table_a_child_finds_nothing_local(monkeypatch):
    monkeypatch.setattr(places, "MOUNTS", "/no/such/table")
    assert not all_local([b"/usr"], b"/bin/true")


def test_what_was_found_is_believed_for_a_moment(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: now[0])
    known = Places()
    assert not known.are_local("a")
    known.note_local("a")
    assert known.are_local("a")
    assert not known.are_local("b")
    now[0] += places.REMEMBERED_FOR
    assert not known.are_local("a")


def test_where_there_is_no_table_every_place_is_local(monkeypatch):
    monkeypatch.setattr(places, "MOUNTS", "/no/such/table")
    assert Places().are_local("a")


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(places, "REMEMBERED", 3)
    known = Places()
    for key in range(10):
        known.note_local(key)
        assert known.are_local(key)
    assert len(known._local) <= 3


@pytest.mark.parametrize(("kind", "forked"), [(b"fuse.sshfs", True), (b"ext4", False)])
def test_a_worker_never_leaves_a_directory_that_may_be_silent_when_it_comes_back(monkeypatch, tmp_path, kind, forked):
    table = tmp_path / "mountinfo"
    table.write_bytes(b"1 0 8:1 / / rw - ext4 x rw\n2 1 0:2 / %s rw - %s x rw\n" % (os.fsencode(os.getcwd()), kind))
    monkeypatch.setattr(places, "MOUNTS", str(table))
    spawner = Spawner([], b"cookie", dict(os.environb))
    request = start_of("/bin/sh", "-c", "pwd -P", cwd=b"/usr")
    spawner._places.knows = False  # what the start itself asks counts as local
    spawned = spawner.start(request, 1, [])
    assert (spawned.report >= 0) is forked
    with os.fdopen(spawned.stdout, "rb") as output:
        os.set_blocking(spawned.stdout, True)
        assert output.read() == b"/usr\n"
    assert os.waitpid(spawned.pid, 0)[1] == 0
    for fd in (spawned.stderr, spawned.report, spawner._home, spawner._null, *spawner._low):
        if fd >= 0:
            os.close(fd)
