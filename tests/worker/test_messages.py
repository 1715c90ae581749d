"""Payloads: what one side packs is what the other unpacks, odd bytes included."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocmdpool.standalone.wire import messages
from aiocmdpool.standalone.wire.messages import Exit, Start

seconds = st.one_of(st.just(messages.NONE), st.floats(0, 1e300))
word = st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"\xff"))  # what the kernel takes for a string
words = st.lists(word, max_size=12)
u8, u32 = st.integers(0, 255), st.integers(0, 2**32 - 1)

starts = st.builds(
    Start,
    timeout=seconds,
    grace=seconds,
    leftover_grace=seconds,
    idle_timeout=seconds,
    max_output=st.integers(-1, 2**63 - 1),
    policy=u8,
    stop_signal=u8,
    flags=u8,
    stdin=u8,
    stdout=u8,
    stderr=u8,
    descriptors=st.integers(0, 3),
    argv=st.lists(word, min_size=1, max_size=12),
    environment=words,
    settings=words,
    cwd=word,
    paths=st.lists(word, min_size=3, max_size=3),
    data=st.binary(max_size=200),
)
exits = st.builds(
    Exit,
    reason=st.integers(messages.EXITED, messages.CLOSED),
    flags=u8,
    tier=st.integers(messages.NOTHING, messages.DESCENDANTS),
    returncode=st.integers(-(2**31), 2**31 - 1),
    pid=u32,
    duration=seconds,
    user=seconds,
    system=seconds,
    max_rss=st.integers(0, 2**64 - 1),
    stdout=st.binary(max_size=200),
    stderr=st.binary(max_size=200),
    leaked=st.lists(st.tuples(u32, word), max_size=8),
)


def fields(message: Start | Exit) -> dict[str, object]:
    return {name: getattr(message, name) for name in message.__slots__}


@given(starts)
def test_a_request_arrives_as_it_was_sent(start):
    assert fields(messages.unpack_start(messages.pack_start(start))) == fields(start)


@given(exits)
def test_a_result_arrives_as_it_was_sent(result):
    assert fields(messages.unpack_exit(messages.pack_exit(result))) == fields(result)


@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from(["program", "stdin", "RLIMIT_NOFILE", "output", ""]))
def test_a_failure_arrives_as_it_was_sent(number, stage):
    assert messages.unpack_failed(messages.pack_failed(number, stage)) == (number, stage)


@given(st.integers(0, 2**16 - 1), u32)
def test_a_hello_and_a_pid_arrive_as_they_were_sent(version, pid):
    assert messages.unpack_hello(messages.pack_hello(version, pid)) == (version, pid)
    assert messages.unpack_pid(messages.pack_pid(pid)) == pid


@given(st.lists(u32))
def test_the_requests_that_a_worker_holds_arrive_as_they_were_sent(numbers):
    assert list(messages.unpack_held(messages.pack_held(numbers))) == numbers


@given(st.lists(u32), st.integers(1, 3))
def test_a_cut_list_of_requests_does_not_pass_for_one(numbers, cut):
    with pytest.raises(struct.error):
        messages.unpack_held(messages.pack_held([*numbers, 1])[:-cut])


def test_many_arguments_and_variables_keep_their_places():
    argv = [b"%d" % number for number in range(10_000)]
    environment = [b"", *(b"V%d=" % number for number in range(1_000))]
    rest = ([b"umask=18"], b"/", [b"", b"a", b""], b"\0data\0")
    start = Start(0.0, 0.0, 0.0, 0.0, 0, 0, 15, 0, 0, 0, 0, 0, argv, environment, *rest)
    seen = messages.unpack_start(messages.pack_start(start))
    assert (seen.argv, seen.environment) == (argv, environment)
    assert (seen.settings, seen.cwd, seen.paths, seen.data) == rest


@pytest.mark.parametrize(("flags", "count"), [(0, 0), (1, 0), (2, 0), (4, 1), (8, 1), (12, 2), (15, 2)])
def test_the_flags_tell_how_many_descriptors_come_along(flags, count):
    result = Exit(0, flags, 0, 0, 1, 0.0, 0.0, 0.0, 0, b"", b"", [])
    assert messages.handed_over(messages.pack_exit(result)) == count


@given(exits, st.data())
def test_a_payload_that_is_cut_does_not_pass_for_a_result(result, data):
    payload = messages.pack_exit(result)
    cut = payload[: data.draw(st.integers(0, min(len(payload) - 1, 59)))]  # inside the fixed part
    with pytest.raises(struct.error):
        messages.unpack_exit(cut)
