"""The limit on descriptors: a worker takes all there may be, its programs get what they would have without it."""

import os
import resource
import signal

import pytest

from aiocmdpool.standalone.wire import frames, messages

from .fake_parent import FakeParent

pytestmark = pytest.mark.slow

SOFT = 256
IN_FLIGHT = 600  # with two pipes each


def few_descriptors() -> None:
    """For the host: a soft limit that is small."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.fixture
def limited_parent():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 2 * IN_FLIGHT + 100:
        pytest.skip(f"only {hard} descriptors are allowed here")
    with FakeParent(preexec_fn=few_descriptors) as parent:
        parent.hello()
        yield parent


@pytest.mark.parametrize("settings", [[], [b"umask=18"]], ids=["posix_spawn", "fork"])
def test_programs_get_the_limits_of_the_host(limited_parent, settings):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for number in (1, 2):
        limited_parent.start(number, "sh", "-c", "ulimit -Sn; ulimit -Hn", settings=settings)
        soft, highest = limited_parent.result(number).stdout.split()
        assert int(soft) == SOFT
        assert highest == (b"unlimited" if hard == resource.RLIM_INFINITY else b"%d" % hard)
    assert resource.prlimit(limited_parent.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_limit_of_the_command_itself_counts_for_it_alone(limited_parent):
    limited_parent.start(1, "sh", "-c", "ulimit -Sn; ulimit -Hn", settings=[b"RLIMIT_NOFILE=99"])
    assert limited_parent.result(1).stdout.split() == [b"99", b"99"]
    limited_parent.start(2, "sh", "-c", "ulimit -Sn")
    assert int(limited_parent.result(2).stdout) == SOFT


def test_a_start_that_fails_leaves_the_limit_as_it_was(limited_parent):
    limited_parent.start(1, "/no/such/program")
    limited_parent.failure(1)
    assert resource.prlimit(limited_parent.pid, resource.RLIMIT_NOFILE)[0] > SOFT


def test_many_more_commands_are_in_flight_than_the_host_has_descriptors(limited_parent, release):
    for number in range(1, IN_FLIGHT + 1):
        limited_parent.start(number, "sleep", "60")
    pids = {limited_parent.started(number) for number in range(1, IN_FLIGHT + 1)}
    assert len(pids) == IN_FLIGHT
    assert len(os.listdir(f"/proc/{limited_parent.pid}/fd")) > 2 * IN_FLIGHT
    for number in range(1, IN_FLIGHT + 1):
        limited_parent.cancel(number)
    for number in range(1, IN_FLIGHT + 1):
        result = limited_parent.result(number)
        assert (result.reason, result.returncode) == (messages.CANCELLED, -signal.SIGTERM)
    limited_parent.send(frames.CLOSE)
    assert limited_parent.wait() == 0
    assert limited_parent.last_words() == ""
