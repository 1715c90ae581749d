"""The worker's end of its connection, over pipes that the test fills and empties."""

import array
import os
import socket

import pytest

from aiocmdpool.standalone.loop.poller import Poller
from aiocmdpool.standalone.wire import frames
from aiocmdpool.standalone.wire.frames import FrameDecoder, ProtocolError
from aiocmdpool.standalone.worker import channel as channel_module
from aiocmdpool.standalone.worker.channel import HIGH_WATER, Channel


class Wire:
    """A channel, and the parent's end of what it stands on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        inward, self.requests = os.pipe()
        self.replies, outward = os.pipe()
        self.passing, theirs = socket.socketpair()
        for fd in (inward, outward, self.replies):
            os.set_blocking(fd, False)
        self.passing.setblocking(False)
        monkeypatch.setattr(channel_module, "_private_pipes", lambda: (inward, outward))
        self.received: list[tuple[int, int, bytes]] = []
        self.ended = 0
        self.poller = Poller()
        self.inward, self.outward = inward, outward
        self.channel = Channel(self.poller, theirs.detach(), lambda *frame: self.received.append(frame), self.end)
        self.decoder = FrameDecoder()

    def end(self) -> None:
        self.ended += 1

    def turn(self) -> None:
        """A turn of the worker's loop."""
        self.channel.flush()
        self.poller.dispatch(0)

    def take(self, count: int = 1 << 20) -> bytes:
        try:
            return os.read(self.replies, count)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for fd in (self.inward, self.outward, self.requests, self.replies):
            try:
                os.close(fd)
            except OSError:
                continue
        self.passing.close()
        self.channel._socket.close()
        if hasattr(self.poller._poll, "close"):
            self.poller._poll.close()


@pytest.fixture
def wire(monkeypatch):
    wire = Wire(monkeypatch)
    yield wire
    wire.close()


def frame(number: int, size: int = 0) -> bytes:
    return frames.encode(frames.EXIT, number, bytes([number % 251]) * size)


def test_nothing_leaves_before_the_flush_and_then_all_leaves_in_one_write(wire, monkeypatch):
    write, writes = os.write, []
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(len(data)) or write(fd, data))
    for number in range(10):
        wire.channel.send(frame(number))
    assert wire.take() == b""
    assert not wire.channel.idle
    wire.channel.flush()
    assert wire.take() == b"".join(frame(number) for number in range(10))
    assert len(writes) == 1
    assert wire.channel.idle


def test_what_a_full_pipe_does_not_take_goes_out_later_in_order(wire):
    expected = b""
    for number in range(40):
        wire.channel.send(frame(number, 10_000))
        expected += frame(number, 10_000)
        wire.channel.flush()
    assert not wire.channel.idle
    taken = b""
    while len(taken) < len(expected):
        piece = wire.take(7_000)
        assert piece
        taken += piece
        wire.turn()
        wire.channel.send(frame(200)) if len(taken) % 3 == 0 else None
    assert taken[: len(expected)] == expected


def test_frames_queued_while_the_pipe_is_full_keep_their_place(wire):
    first, rest = frame(1, 200_000), [frame(number, 10) for number in range(2, 50)]
    wire.channel.send(first)
    wire.channel.flush()
    for queued in rest:
        wire.channel.send(queued)
        wire.channel.flush()
    seen = []
    while len(seen) < 49:
        seen += wire.decoder.feed(wire.take())
        wire.turn()
    assert [number for _, number, _ in seen] == list(range(1, 50))
    assert wire.channel.idle


def test_a_full_pipe_is_not_written_to_before_there_is_room(wire, monkeypatch):
    wire.channel.send(frame(1, 500_000))
    wire.turn()
    write, writes = os.write, []
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(fd) or write(fd, data))
    for _ in range(5):
        wire.turn()
    assert writes == []
    wire.take()
    wire.turn()
    assert writes


def test_a_parent_that_does_not_read_makes_it_congested_until_it_does(wire):
    assert not wire.channel.congested
    sent = 0
    while sent <= HIGH_WATER + 100_000:
        wire.channel.send(frame(1, 50_000))
        sent += 50_000
        wire.channel.flush()
    assert wire.channel.congested
    while not wire.channel.idle:
        assert wire.take()
        wire.turn()
    assert not wire.channel.congested


def test_a_large_backlog_is_written_at_a_cost_that_grows_with_it_and_no_faster(wire, monkeypatch):
    """Each byte is offered to the pipe a few times at most, however much waits behind it."""
    write, offered = os.write, []
    monkeypatch.setattr(os, "write", lambda fd, data: offered.append(len(data)) or write(fd, data))
    total = 0
    for number in range(400):
        wire.channel.send(frame(number, 50_000))
        total += len(frame(number, 50_000))
        wire.channel.flush()
    while not wire.channel.idle:
        wire.take()
        wire.turn()
    assert total <= sum(offered) < 8 * total


def test_frames_arrive_however_they_are_cut(wire):
    stream = frame(1, 100) + frame(2) + frame(3, 5)
    for place in range(0, len(stream), 37):
        os.write(wire.requests, stream[place : place + 37])
        wire.turn()
    assert [(number, len(payload)) for _, number, payload in wire.received] == [(1, 100), (2, 0), (3, 5)]


def test_the_end_of_the_pipe_is_told_once(wire):
    os.close(wire.requests)
    wire.requests = -1
    for _ in range(3):
        wire.turn()
    assert wire.ended == 1


def test_a_parent_that_no_longer_reads_is_gone(wire):
    os.close(wire.replies)
    wire.channel.send(frame(1))
    wire.turn()
    assert wire.ended
    wire.channel.send(frame(2))
    wire.turn()


def test_garbage_is_a_protocol_error(wire):
    os.write(wire.requests, b"x" * 100)
    with pytest.raises(ProtocolError):
        wire.turn()


# -- descriptors -----------------------------------------------------------------------------------------------------


def received_descriptors(sock: socket.socket) -> tuple[bytes, list[int]]:
    message, ancillary, _, _ = sock.recvmsg(4, 1024)
    fds = array.array("i")
    for _, _, data in ancillary:
        fds.frombytes(data)
    return message, fds.tolist()


def send_descriptors(sock: socket.socket, number: int, *fds: int) -> None:
    sock.sendmsg([number.to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def test_descriptors_travel_before_their_frame_and_are_closed_here(wire):
    read_end, write_end = os.pipe()
    wire.channel.send_with_descriptors(9, [read_end], frame(9))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)
    message, [theirs] = received_descriptors(wire.passing)
    assert message == b"\0\0\0\x09"
    os.write(write_end, b"it is this one")
    assert os.read(theirs, 100) == b"it is this one"
    wire.channel.flush()
    assert wire.take() == frame(9)
    os.close(theirs)
    os.close(write_end)


def test_a_full_socket_holds_frames_back_and_loses_none(wire):
    numbers = range(1, 400)
    for number in numbers:
        fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(1 + number % 2)]
        wire.channel.send_with_descriptors(number, fds, frame(number))
        wire.turn()
    assert not wire.channel.idle  # the socket takes a few hundred messages
    seen, passed = [], []
    while len(seen) < len(numbers):
        for _, number, _ in wire.decoder.feed(wire.take()):
            message, fds = received_descriptors(wire.passing)  # it is there: it was sent before
            passed.append((int.from_bytes(message, "big"), len(fds)))
            for fd in fds:
                os.close(fd)
            seen.append(number)
        wire.turn()
    assert seen == list(numbers)
    assert passed == [(number, 1 + number % 2) for number in numbers]
    assert wire.channel.idle


def test_small_replies_are_not_held_up_behind_a_full_socket(wire):
    while wire.channel._waiting == []:
        wire.channel.send_with_descriptors(1, [os.open(os.devnull, os.O_RDONLY)], frame(1))
    wire.turn()
    wire.take()
    wire.channel.send(frame(2))
    wire.turn()
    assert wire.take() == frame(2)
    for _, fds, _ in wire.channel._waiting:
        for fd in fds:
            os.close(fd)


def test_descriptors_for_a_request_are_received_and_not_inheritable(wire):
    read_end, write_end = os.pipe()
    send_descriptors(wire.passing, 5, read_end, write_end)
    fds = wire.channel.receive_descriptors(5, 2)
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(read_end).st_ino, os.fstat(write_end).st_ino]
    assert not any(map(os.get_inheritable, fds))
    for fd in (*fds, read_end, write_end):
        os.close(fd)


@pytest.mark.parametrize(("number", "count"), [(6, 1), (5, 2)])
def test_descriptors_for_another_request_are_a_protocol_error(wire, number, count):
    send_descriptors(wire.passing, 5, wire.replies)
    next_free = os.dup(wire.replies)
    os.close(next_free)
    with pytest.raises(ProtocolError):
        wire.channel.receive_descriptors(number, count)
    os.close(next_free)  # the worker does not care to: it ends with this error


def test_a_socket_without_a_peer_is_the_end(wire):
    wire.passing.close()
    fd = os.open(os.devnull, os.O_RDONLY)
    wire.channel.send_with_descriptors(1, [fd], frame(1))
    assert wire.ended == 1
    os.close(fd)
