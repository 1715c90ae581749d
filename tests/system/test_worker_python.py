"""What a pool that root has started holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiocmdpool.system import worker_python
from aiocmdpool.system.worker_python import Held


def test_a_number_that_somebody_else_has_by_now_is_left_alone(tmp_path):
    held = Held.of(os.open(tmp_path, os.O_RDONLY))
    os.close(held.fd)
    held.close()
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, held.fd)
    held.close()
    os.close(held.fd)  # it was open
    if other != held.fd:
        os.close(other)


def test_a_path_into_a_file_ends_no_start(tmp_path):
    archive = tmp_path / "application.zip"  # sys.path may have one
    archive.touch()
    assert worker_python._may_be_searched_by_all(archive / "aiocmdpool")


def test_what_only_root_may_search_is_not_open_to_all(tmp_path):
    tmp_path.chmod(0o700)
    assert not worker_python._is_open_to_all(str(tmp_path / "bin" / "python"))


def test_all_directories_on_the_way_count_and_not_only_its_ends(tmp_path):
    closed, bin_directory = tmp_path / "closed", tmp_path / "venv" / "bin"
    closed.mkdir()
    bin_directory.mkdir(parents=True)
    (closed / "python").symlink_to("../../../../../../../../usr/bin/env")
    (bin_directory / "python").symlink_to("../../closed/python")
    searched = worker_python._directories_on_the_way(str(bin_directory / "python"))
    assert {Path("/"), tmp_path, bin_directory, closed, Path("/usr/bin")} <= searched


def test_links_in_a_circle_come_to_an_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert tmp_path in worker_python._directories_on_the_way(str(tmp_path / "a" / "python"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_held_tree_has_what_is_mounted_below_it(tmp_path):
    """What a mount covers stays covered, and what it brings is there."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "covered").touch()
    program = """\
import os, subprocess, sys
from aiocmdpool.system.native import clone_tree

subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1] + "/below"], check=True)
open(sys.argv[1] + "/below/shown", "w").close()
fd = clone_tree(sys.argv[1])
print(os.listdir(f"/proc/self/fd/{fd}/below"))
"""
    ran = subprocess.run(["unshare", "--mount", sys.executable, "-c", program, tmp_path], capture_output=True)
    if ran.returncode and b"not permitted" in ran.stderr.lower():
        pytest.skip("this root may mount nothing")
    assert ran.stdout == b"['shown']\n"
