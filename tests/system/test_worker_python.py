"""What a pool that root has started holds."""

import os

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
