"""Frames: however the stream is cut they are the same, and whatever is damaged is an error, never a wait."""

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocmdpool.standalone.wire import frames
from aiocmdpool.standalone.wire.frames import HEADER_SIZE, KINDS, MAX_BODY, FrameDecoder, ProtocolError, encode

Frame = tuple[int, int, bytes]

one_frame = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 2**32 - 1), st.binary(max_size=80))
some_frames = st.lists(one_frame, min_size=1, max_size=6)


def stream_of(sent: list[Frame]) -> bytes:
    return b"".join(encode(*frame) for frame in sent)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream, cut at these places."""
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def ends_of(sent: list[Frame]) -> list[int]:
    """Where the frames end in their stream."""
    return list(itertools.accumulate(len(encode(*frame)) for frame in sent))


def decode(pieces: list[bytes]) -> tuple[list[Frame], bool]:
    """What a decoder makes of a whole stream: the frames before an error, and whether there was none."""
    decoder, seen = FrameDecoder(), []
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                seen.append(frame)  # noqa: PERF402  # those before an error count
        decoder.finish()
    except ProtocolError:
        return seen, False
    return seen, True


@given(some_frames, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_of_the_stream_decodes_to_the_same_frames(sent, cuts):
    assert decode(pieces_of(stream_of(sent), cuts)) == (sent, True)


@given(some_frames)
def test_a_byte_at_a_time_decodes_to_the_same_frames_each_as_soon_as_it_is_whole(sent):
    decoder, seen, ends = FrameDecoder(), [], ends_of(sent)
    for index, byte in enumerate(stream_of(sent)):
        seen += decoder.feed(bytes([byte]))
        assert len(seen) == sum(end <= index + 1 for end in ends)
    decoder.finish()
    assert seen == sent


def test_an_empty_stream_is_a_whole_one():
    assert decode([]) == ([], True)
    assert decode([b"", b""]) == ([], True)


@given(some_frames, st.integers(0, 10_000), st.integers(1, 255), st.lists(st.integers(0, 10_000), max_size=5))
def test_a_changed_byte_is_an_error_and_the_frames_before_it_are_intact(sent, place, change, cuts):
    stream = bytearray(stream_of(sent))
    place %= len(stream)
    stream[place] ^= change
    seen, whole = decode(pieces_of(bytes(stream), cuts))
    assert not whole
    assert seen == frames_before(sent, place)


@given(some_frames, st.integers(0, 10_000), st.binary(min_size=1, max_size=40), st.lists(st.integers(0, 10_000)))
def test_inserted_bytes_are_an_error_and_the_frames_before_them_are_intact(sent, place, inserted, cuts):
    stream = stream_of(sent)
    place %= len(stream) + 1
    seen, whole = decode(pieces_of(stream[:place] + inserted + stream[place:], cuts))
    assert not whole
    intact = frames_before(sent, place)
    assert seen[: len(intact)] == intact
    assert set(seen) <= set(sent)


@given(some_frames, st.integers(0, 10_000), st.integers(1, 200), st.lists(st.integers(0, 10_000), max_size=5))
def test_missing_bytes_are_an_error_unless_they_are_whole_frames(sent, place, count, cuts):
    stream = stream_of(sent)
    place %= len(stream)
    damaged = stream[:place] + stream[place + count :]
    seen, whole = decode(pieces_of(damaged, cuts))
    assert seen[: len(frames_before(sent, place))] == frames_before(sent, place)
    assert set(seen) <= set(sent)
    assert not whole or stream_of(seen) == damaged


@given(some_frames, st.integers(0, 10_000), st.lists(st.integers(0, 10_000), max_size=5))
def test_a_stream_that_ends_inside_a_frame_is_an_error_at_its_end(sent, place, cuts):
    stream = stream_of(sent)
    place %= len(stream)
    seen, whole = decode(pieces_of(stream[:place], cuts))
    assert seen == frames_before(sent, place)
    assert whole == (stream_of(seen) == stream[:place])


@given(one_frame, st.integers(0, 63))
def test_a_wrong_length_is_an_error_at_once_and_no_wait_for_gigabytes(frame, bit):
    header = bytearray(encode(*frame)[:HEADER_SIZE])
    header[bit // 8] ^= 1 << bit % 8  # in the length, or in its check
    with pytest.raises(ProtocolError):
        list(FrameDecoder().feed(bytes(header)))


@given(st.binary(min_size=HEADER_SIZE, max_size=200))
def test_garbage_is_an_error_as_soon_as_a_header_would_be_there(garbage):
    with pytest.raises(ProtocolError):
        list(FrameDecoder().feed(garbage))


@given(st.integers(0, 2**32 - 1))
def test_a_length_that_no_frame_can_have_is_an_error_even_if_its_check_is_right(length):
    header = struct.pack("!III", length, frames._check(length), 0)
    decoder = FrameDecoder()
    if 5 <= length <= MAX_BODY:
        assert list(decoder.feed(header)) == []
    else:
        with pytest.raises(ProtocolError):
            list(decoder.feed(header))


@pytest.mark.parametrize("kind", [0, max(KINDS) + 1, 255])
def test_an_unknown_kind_is_an_error(kind):
    with pytest.raises(ProtocolError, match="kind"):
        list(FrameDecoder().feed(encode(kind, 1, b"x")))


def test_an_error_shows_what_came_instead_of_a_frame():
    with pytest.raises(ProtocolError, match="Traceback"):
        list(FrameDecoder().feed(b"Traceback (most recent call last)"))


def test_a_large_frame_in_pieces_is_checked_once_and_held_about_once(monkeypatch):
    payload, checked = bytes(1_000_000), []
    crc32 = frames.crc32
    stream = encode(frames.EXIT, 1, payload)
    monkeypatch.setattr(frames, "crc32", lambda data: checked.append(len(data)) or crc32(data))
    pieces = [stream[place : place + 65536] for place in range(0, len(stream), 65536)]
    decoder, seen = FrameDecoder(), []
    tracemalloc.start()
    try:
        for piece in pieces:
            seen += decoder.feed(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == [(frames.EXIT, 1, payload)]
    assert checked == [len(payload) + 5]
    assert peak < 4 * len(stream)


def test_many_frames_in_one_piece_are_checked_once_each(monkeypatch):
    checked = []
    crc32 = frames.crc32
    stream = encode(frames.PONG, 7, b"x" * 20) * 1000
    monkeypatch.setattr(frames, "crc32", lambda data: checked.append(len(data)) or crc32(data))
    seen, whole = decode([stream[:9_999], stream[9_999:]])
    assert (len(seen), whole) == (1000, True)
    assert checked == [25] * 1000


def frames_before(sent: list[Frame], place: int) -> list[Frame]:
    """The frames that end at or before this place in the stream."""
    return [frame for frame, end in zip(sent, ends_of(sent), strict=True) if end <= place]
