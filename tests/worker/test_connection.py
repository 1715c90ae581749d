"""The parent's end of the connection, over pipes that the test fills, empties and breaks."""

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import termios
from collections.abc import AsyncIterator

import pytest

from aiocmdpool.backends.workers.connection import HIGH_WATER, Connection
from aiocmdpool.standalone.wire import frames
from aiocmdpool.standalone.wire.frames import FrameDecoder, ProtocolError

from .support import PATIENCE


class Wire:
    """A connection, and the worker's end of what it stands on."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.requests, self._writing = os.pipe()
        self._reading, self.replies = os.pipe()
        ours, self.passing = socket.socketpair()
        os.set_blocking(self.requests, False)
        self.passing.setblocking(False)
        self.received: list[tuple[int, int, bytes]] = []
        self.lost: list[str] = []
        self.taken = b""
        self.connection = Connection(loop, self._reading, self._writing, ours, self._receive, self.lost.append)
        self._decoder = FrameDecoder()

    def _receive(self, kind: int, number: int, payload: bytes) -> None:
        self.received.append((kind, number, payload))

    def take(self, count: int = 1 << 20) -> bytes:
        """What has arrived at the worker."""
        try:
            return os.read(self.requests, count)
        except BlockingIOError:
            return b""

    def take_frames(self) -> list[int]:
        """The numbers of the frames that have arrived at the worker."""
        return [number for _, number, _ in self._decoder.feed(self.take())]

    async def take_until(self, *numbers: int) -> list[int]:
        """Read as a worker does until these have arrived; everything that has."""
        seen: list[int] = []
        async with asyncio.timeout(PATIENCE):
            while not set(numbers) <= set(seen):
                seen += self.take_frames()
                await asyncio.sleep(0)
        return seen

    async def hear(self, count: int) -> list[tuple[int, int, bytes]]:
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:
                await asyncio.sleep(0)
        return self.received

    async def lose(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while not self.lost:
                await asyncio.sleep(0)
        await turns()
        [why] = self.lost
        return why

    async def fill(self) -> list[int]:
        """Send until the pipe is full and the connection congested, a frame a turn: no frame is cut. What was sent."""
        sent: list[int] = []
        while not self.connection.congested:
            sent.append(len(sent) + 1)
            self.connection.send(sent[-1], frame(sent[-1], 3000))
            await turns()
        return sent

    async def fill_socket(self) -> list[int]:
        """Send descriptors until the socket is full; what was sent, the last of it held back."""
        sent: list[int] = []
        while not self.connection.congested:
            sent.append(len(sent) + 1)
            self.pass_one(sent[-1])
            await turns()
        return sent

    def pass_one(self, number: int, fd: int | None = None, notes: list[object] | None = None) -> None:
        notes = [] if notes is None else notes
        self.connection.send_with_descriptors(
            number, frame(number), [self.requests if fd is None else fd], lambda: notes.append(number), notes.append
        )

    def take_descriptors(self) -> list[tuple[int, int]]:
        """The requests for which descriptors have arrived, and how many."""
        seen = []
        with contextlib.suppress(BlockingIOError):
            while True:
                message, ancillary, _, _ = self.passing.recvmsg(4, 1024)
                fds = array.array("i")
                for _, _, data in ancillary:
                    fds.frombytes(data)
                for fd in fds:
                    os.close(fd)
                seen.append((int.from_bytes(message, "big"), len(fds)))
        return seen

    def close_replies(self) -> None:
        if self.replies >= 0:
            os.close(self.replies)
            self.replies = -1

    def close_requests(self) -> None:
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1

    def close(self) -> None:
        self.connection.close()
        self.close_replies()
        self.close_requests()
        self.passing.close()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def frame(number: int, size: int = 0) -> bytes:
    return frames.encode(frames.START, number, bytes([number % 251]) * size)


async def turns(count: int = 3) -> None:
    """Turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


# -- sending ---------------------------------------------------------------------------------------------------------


async def test_what_is_sent_in_one_turn_leaves_in_one_write(wire, monkeypatch):
    write, writes = os.write, []
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(len(data)) or write(fd, data))
    for number in range(1, 11):
        wire.connection.send(number, frame(number))
    assert wire.take() == b""
    assert wire.connection.unsent() == set(range(1, 11))
    await turns()
    assert wire.take() == b"".join(map(frame, range(1, 11)))
    assert len(writes) == 1
    assert wire.connection.unsent() == set()


async def test_what_a_full_pipe_does_not_take_goes_out_later_in_order(wire):
    numbers = list(range(1, 60))
    for number in numbers:
        wire.connection.send(number, frame(number, 10_000))
    assert await wire.take_until(*numbers) == numbers
    assert not wire.connection.congested


@pytest.mark.parametrize("taken", [1, 11, 12, 13, 100, 4096, 65536])
async def test_only_frames_of_which_no_byte_has_left_count_as_unsent(wire, taken):
    for number in range(1, 30):
        wire.connection.send(number, frame(number, 9_000))
    await turns()
    left = pipe_content(wire.requests)
    assert 0 < left < 29 * len(frame(1, 9_000))
    touched = -(-left // len(frame(1, 9_000)))
    assert wire.connection.unsent() == set(range(touched + 1, 30))
    assert len(wire.take(taken)) == taken
    await turns()
    assert wire.connection.unsent() <= set(range(touched + 1, 30))


def pipe_content(fd: int) -> int:
    """How many bytes wait in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


async def test_a_frame_can_be_withdrawn_as_long_as_no_byte_has_left(wire):
    for number in range(1, 30):
        wire.connection.send(number, frame(number, 9_000))
    await turns()
    unsent = sorted(wire.connection.unsent())
    assert not wire.connection.withdraw(1)
    assert not wire.connection.withdraw(unsent[0] - 1)  # it is cut: its head has left
    assert wire.connection.withdraw(unsent[0])
    assert not wire.connection.withdraw(unsent[0])
    assert wire.connection.withdraw(unsent[-1])
    rest = [number for number in range(1, 30) if number not in (unsent[0], unsent[-1])]
    assert await wire.take_until(*rest) == rest


async def test_a_frame_that_is_withdrawn_in_its_own_turn_never_leaves(wire):
    wire.connection.send(1, frame(1))
    wire.connection.send(2, frame(2))
    assert wire.connection.withdraw(1)
    await turns()
    assert wire.take_frames() == [2]
    wire.connection.send(3, frame(3))
    assert wire.connection.withdraw(3)
    await turns()
    assert wire.take() == b""


# -- back-pressure ---------------------------------------------------------------------------------------------------


async def test_senders_that_wait_for_room_keep_the_queue_small(wire):
    """However many there are; each looks again when it is woken."""
    sizes = []

    async def send(number: int) -> None:
        if wire.connection.congested:
            await wire.connection.drained()
        wire.connection.send(number, frame(number, 50_000))
        sizes.append(wire.connection._unsent_size)

    senders = [asyncio.ensure_future(send(number)) for number in range(1, 201)]
    await turns(10)
    assert sum(sender.done() for sender in senders) < 20
    await wire.take_until(*range(1, 201))
    await asyncio.gather(*senders)
    assert max(sizes) <= HIGH_WATER + 2 * len(frame(1, 50_000))


async def test_waiting_for_room_can_be_cancelled(wire):
    await wire.fill()
    first, second = (asyncio.ensure_future(wire.connection.drained()) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    assert not second.done()
    while not second.done():
        wire.take()
        await asyncio.sleep(0)


async def test_waiting_for_room_ends_with_the_connection(wire):
    await wire.fill()
    waiting = asyncio.ensure_future(wire.connection.drained())
    await turns()
    assert not waiting.done()
    wire.connection.close()
    async with asyncio.timeout(PATIENCE):
        await waiting


async def test_room_that_comes_from_withdrawn_frames_is_noticed(wire):
    """There may be nothing to write after them."""
    sent = await wire.fill()
    waiting = asyncio.ensure_future(wire.connection.drained())
    await turns()
    for number in sent:
        wire.connection.withdraw(number)
    wire.take()
    async with asyncio.timeout(PATIENCE):
        await waiting


# -- descriptors -----------------------------------------------------------------------------------------------------


async def test_descriptors_travel_before_their_frame(wire):
    notes: list[object] = []
    wire.pass_one(5, notes=notes)
    assert notes == [5]  # at once: what was opened for the program alone need not stay open
    assert wire.take_descriptors() == [(5, 1)]
    await turns()
    assert wire.take_frames() == [5]


async def test_a_full_socket_holds_everything_after_it_back(wire):
    sent = await wire.fill_socket()
    wire.take()
    wire.connection.send(9001, frame(9001))
    wire.pass_one(9002)
    wire.connection.send(9003, frame(9003))
    await turns()
    assert wire.take_frames() == []
    assert wire.connection.unsent() == {sent[-1], 9001, 9002, 9003}
    passed = []
    frames_seen: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while 9003 not in frames_seen:
            passed += wire.take_descriptors()
            frames_seen += wire.take_frames()
            await asyncio.sleep(0)
    assert frames_seen == [sent[-1], 9001, 9002, 9003]
    assert passed == [(number, 1) for number in (*sent, 9002)]
    assert not wire.connection.congested


async def test_a_full_socket_makes_it_congested_until_there_is_room(wire):
    await wire.fill_socket()
    waiting = asyncio.ensure_future(wire.connection.drained())
    await turns()
    assert not waiting.done()
    wire.take_descriptors()
    async with asyncio.timeout(PATIENCE):
        await waiting


async def test_a_descriptor_that_is_not_open_costs_its_own_frame_only(wire):
    closed = os.dup(0)
    os.close(closed)
    notes: list[object] = []
    wire.pass_one(1, closed, notes)
    [error] = notes
    assert isinstance(error, OSError)
    wire.pass_one(2, notes=notes)
    await turns()
    assert wire.take_frames() == [2]
    assert wire.take_descriptors() == [(2, 1)]
    assert wire.lost == []


async def test_a_descriptor_that_is_closed_while_it_waits_costs_its_own_frame_only(wire):
    await wire.fill_socket()
    doomed, notes = os.dup(0), []
    wire.pass_one(9001, doomed, notes)
    wire.pass_one(9002, notes=notes)
    waiting = asyncio.ensure_future(wire.connection.drained())
    await turns()
    os.close(doomed)
    frames_seen: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while 9002 not in frames_seen:
            wire.take_descriptors()
            frames_seen += wire.take_frames()
            await asyncio.sleep(0)
        await waiting
    assert 9001 not in frames_seen
    assert isinstance(notes[0], OSError)
    assert notes[1:] == [9002]


async def test_a_last_descriptor_that_is_refused_wakes_who_waits_for_room(wire):
    await wire.fill_socket()
    held, notes = wire.connection._held, []
    held.clear()
    doomed = os.dup(0)
    wire.pass_one(9001, doomed, notes)
    waiting = asyncio.ensure_future(wire.connection.drained())
    await turns()
    assert not waiting.done()
    os.close(doomed)
    async with asyncio.timeout(PATIENCE):
        while not waiting.done():
            wire.take_descriptors()
            await asyncio.sleep(0)
    assert isinstance(notes[0], OSError)


async def test_a_socket_without_a_peer_is_the_end_and_nothing_of_it_was_sent(wire):
    wire.passing.close()
    notes: list[object] = []
    wire.pass_one(1, notes=notes)
    assert "socket" in await wire.lose()
    assert notes == []
    assert wire.connection.unsent() == {1}


# -- receiving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 12, 13, 40, 1000])
async def test_frames_arrive_however_they_are_cut(wire, size):
    stream = frame(1, 100) + frame(2) + frame(3, 50)
    for place in range(0, len(stream), size):
        os.write(wire.replies, stream[place : place + size])
        await turns(1)
    assert [(number, len(payload)) for _, number, payload in await wire.hear(3)] == [(1, 100), (2, 0), (3, 50)]


async def test_a_large_frame_arrives_while_the_other_side_is_still_writing_it(wire):
    os.set_blocking(wire.replies, False)
    left = memoryview(frame(1, 1_000_000))
    async with asyncio.timeout(PATIENCE):
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(wire.replies, left) :]
            await asyncio.sleep(0)
    [(_, _, payload)] = await wire.hear(1)
    assert payload == b"\x01" * 1_000_000


@pytest.mark.parametrize("garbage", [b"x" * 12, b"Traceback (most recent call last):\n", bytes(500)])
async def test_garbage_is_the_end(wire, garbage):
    os.write(wire.replies, frame(1) + garbage)  # what came before it counts, be it in the same read
    assert "garbage" in await wire.lose()
    assert [number for _, number, _ in wire.received] == [1]
    assert wire.connection.closed


async def test_the_end_of_the_stream_is_the_end(wire):
    os.write(wire.replies, frame(1))
    wire.close_replies()
    await wire.lose()
    assert [number for _, number, _ in wire.received] == [1]


async def test_a_frame_that_is_cut_off_is_the_end_and_is_told_as_such(wire):
    os.write(wire.replies, frame(1) + frame(2, 100)[:50])
    wire.close_replies()
    assert "inside a frame" in await wire.lose()
    assert [number for _, number, _ in wire.received] == [1]


async def test_a_worker_that_reads_no_more_is_the_end(wire):
    wire.close_requests()
    wire.connection.send(1, frame(1))
    assert "pipe" in await wire.lose()
    wire.connection.send(2, frame(2))  # harmless
    await turns()


async def test_what_a_handler_finds_wrong_is_the_end(wire):
    def refuse(*_: object) -> None:
        raise ProtocolError("no such request")

    wire.connection._received = refuse
    os.write(wire.replies, frame(1) + frame(2))
    assert "no such request" in await wire.lose()


async def test_descriptors_that_came_with_a_reply_are_received(wire):
    read_end, write_end = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read_end, write_end]))]
    wire.passing.sendmsg([(7).to_bytes(4, "big")], rights)
    fds = wire.connection.receive_descriptors(7, 2)
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(read_end).st_ino, os.fstat(write_end).st_ino]
    assert not any(map(os.get_inheritable, fds))
    for fd in (*fds, read_end, write_end):
        os.close(fd)


@pytest.mark.parametrize(("request_number", "count"), [(8, 1), (7, 2), (8, 2)])
async def test_descriptors_that_do_not_fit_the_reply_are_an_error_and_are_closed(wire, request_number, count):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [wire.requests]))]
    wire.passing.sendmsg([(7).to_bytes(4, "big")], rights)
    with pytest.raises(ProtocolError):
        wire.connection.receive_descriptors(request_number, count)


async def test_descriptors_that_did_not_come_are_an_error(wire):
    with pytest.raises(ProtocolError):
        wire.connection.receive_descriptors(7, 1)
    wire.passing.send((7).to_bytes(4, "big"))
    with pytest.raises(ProtocolError):
        wire.connection.receive_descriptors(7, 1)


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_closing_is_harmless_when_repeated_and_tells_nobody(wire):
    wire.connection.send(1, frame(1))
    wire.connection.close()
    other = os.dup(0)  # takes a number that has become free
    wire.connection.close()
    os.fstat(other)
    os.close(other)
    await turns()
    assert wire.lost == []


async def test_a_loss_is_told_once(wire):
    os.write(wire.replies, b"x" * 100)
    wire.close_requests()
    wire.connection.send(1, frame(1))
    await wire.lose()
    wire.close_replies()
    await turns(5)
    assert len(wire.lost) == 1


async def test_a_number_that_no_descriptor_has_holds_nothing_up(wire):
    notes: list[object] = []
    wire.pass_one(1, 2**31, notes)
    wire.pass_one(2, None, notes)
    assert await wire.take_until(2) == [2]
    assert (notes[0].errno, notes[1:]) == (errno.EBADF, [2])
    assert wire.take_descriptors() == [(2, 1)]
    assert wire.connection.is_at_rest
