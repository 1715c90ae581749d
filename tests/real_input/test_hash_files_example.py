"""`examples/hash_files.py`, run as its reader would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from contract.support import host_environment

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hash_files.py"


def hash_files(*arguments, **options):
    argv = [sys.executable, "-W", "error", EXAMPLE, *arguments]
    return subprocess.run(argv, capture_output=True, check=False, env=host_environment(), timeout=60, **options)


def test_it_prints_what_sha256sum_prints(programs):
    expected = subprocess.run(["sha256sum", "--", *programs], check=True, capture_output=True).stdout
    done = hash_files("/usr/bin")
    assert done.stdout == expected
    assert done.returncode == bool(done.stderr)  # where there are files that this user may not read


def test_names_are_written_as_sha256sum_writes_them(programs, tmp_path):
    names = [b"plain", b"two words", b"line\nbreak", b"back\\slash", b"-dash", b"\xff\xfe", "ümlaut".encode(), b"*"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("plain")
    paths = sorted(path for path in tmp_path.iterdir() if path.is_file() and not path.is_symlink())
    expected = subprocess.run(["sha256sum", "--", *paths], check=True, capture_output=True).stdout
    done = hash_files(tmp_path, "--at-once", "2")
    assert (done.stdout, done.stderr, done.returncode) == (expected, b"", 0)


def test_another_program_may_hash(programs, tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    done = hash_files("--program", "md5sum", tmp_path)
    assert done.stdout == subprocess.run(["md5sum", tmp_path / "file"], check=True, capture_output=True).stdout


def test_an_empty_directory_gives_nothing(tmp_path):
    done = hash_files(tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


def test_files_that_cannot_be_hashed_do_not_stop_the_others(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    done = hash_files("--program", "/no/such/program", tmp_path)
    assert done.stdout == b""
    assert [line.startswith(b"hash_files: ") for line in done.stderr.splitlines()] == [True] * 3
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/directory"], b"hash_files: [Errno 2] No such file or directory: '/no/such/directory'\n"),
        (["--at-once", "0", "/"], b"hash_files: concurrency_limit: 0 is not a whole number >= 1\n"),
    ],
)
def test_a_wrong_setting_is_one_line(arguments, words):
    done = hash_files(*arguments)
    assert (done.stdout, done.stderr, done.returncode) == (b"", words, 2)


def test_a_reader_who_leaves_ends_it_quietly(programs):
    argv = [sys.executable, "-W", "error", EXAMPLE, "/usr/bin"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=host_environment()) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
