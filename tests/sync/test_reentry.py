"""A signal handler or a destructor uses the facade in the middle of the facade: nobody waits for the frame below."""

import pytest
from contract.support import HOST_DEADLINE

pytestmark = pytest.mark.slow


def ends_well(process):
    """What a host says that did not jam."""
    stdout, stderr = process.communicate(timeout=2 * HOST_DEADLINE)
    assert (process.returncode, stderr) == (0, "")
    return stdout.splitlines()


def test_a_first_use_in_the_middle_of_a_first_use(host):
    assert ends_well(host("reentry", "first_use")) == ["True 1"]


@pytest.mark.parametrize("kind", ["CommandPool", "CommandPoolSeg"])
def test_a_use_in_the_middle_of_a_wait_for_a_result(host, kind):
    assert ends_well(host("reentry", "result", kind)) == ["True"]


def test_a_use_in_the_thread_that_starts_the_background_is_refused(host):
    assert ends_well(host("reentry", "in_the_thread_that_starts_it")) == [
        "aiocmdpool.sync is being started by this thread; use it in another one",
        "hello",
    ]


def test_no_more_threads_is_an_error_and_not_the_end(host):
    first, second = ends_well(host("reentry", "no_more_threads"))
    assert first.startswith("IoError aiocmdpool.sync could not start its thread (can't start new thread)")
    assert second == "hello"
