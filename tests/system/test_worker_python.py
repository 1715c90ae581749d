"""What a pool that root has started holds."""

import os

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
