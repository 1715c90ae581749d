"""`Connection`: the parent's side of the frames: two pipes, and a socket for descriptors, on the event loop.

Everything sent in one iteration of the loop goes out in one write; everything that has arrived is read in one read. It
uses `loop.add_reader` and `os.read` for the same reasons as `system/pipes.py`.
"""

import array
import asyncio
import errno
import functools
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from aiocmdpool.backends.workers.descriptors import receive_descriptors
from aiocmdpool.standalone.wire.frames import FrameDecoder, ProtocolError

CHUNK = 65536  # bytes per read, the capacity of the pipe; with more, each read would map and unmap its buffer
HIGH_WATER = 262144  # unsent bytes above which `drained` waits
CLOSED_PIPE = "it closed its pipe"


class Connection:
    """The connection to one worker: sends and receives frames, and passes descriptors beside them.

    Args:
        loop: The event loop of the connection.
        reading: The pipe from the worker; owned from here on, as are the others.
        writing: The pipe to the worker.
        passing: The socket for descriptors.
        received: Called with (kind, request id, payload) for each frame.
        lost: Called, once, with the reason when the stream has ended or makes no sense.
        close: Function that closes a pipe.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reading: int,
        writing: int,
        passing: socket.socket,
        received: Callable[[int, int, bytes], None],
        lost: Callable[[str], None],
        close: Callable[[int], None] = os.close,
    ) -> None:
        self._loop = loop
        self._close = close
        self._reading, self._writing, self._passing = reading, writing, passing
        self._received, self._lost = received, lost
        self._decoder = FrameDecoder()
        self._unsent: deque[tuple[int, bytes]] = deque()  # request ids and frames of which no byte has been written
        self._unsent_size = 0
        self._cut = b""  # the rest of a partly written frame
        self._held: deque[_Held] = deque()  # frames that wait for the socket
        self._flushing = self._blocked = False
        self._room: list[asyncio.Future[None]] = []
        self.closed = False
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        passing.setblocking(False)
        self.receive_descriptors = functools.partial(receive_descriptors, passing)
        """Return the descriptors of the frame just received; see `descriptors.receive_descriptors`."""
        loop.add_reader(reading, self._readable)

    @property
    def is_at_rest(self) -> bool:
        """Return whether the connection is open and idle: no frame is held or partly sent, nobody waits for room."""
        return not (self.closed or self._held or self._cut or self._room)

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move the idle connection to another event loop."""
        self._loop.remove_reader(self._reading)
        self._loop.remove_writer(self._writing)
        self._loop = loop
        self._flushing = self._blocked = False
        loop.add_reader(self._reading, self._readable)
        if self._unsent:
            self._flush_soon()

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, request: int, frame: bytes) -> None:
        """Queue the frame of a request; it goes out at the end of this iteration of the loop."""
        if self._held:  # keep the order: no frame may overtake one that waits for its descriptors
            self._held.append(_Held(request, frame, [], _nothing, _nothing))
            return
        self._unsent.append((request, frame))
        self._unsent_size += len(frame)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing and not self._blocked and not self.closed:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def send_with_descriptors(
        self,
        request: int,
        frame: bytes,
        descriptors: list[int],
        sent: Callable[[], None],
        refused: Callable[[OSError], None],
    ) -> None:
        """Queue a frame that refers to `descriptors`, which travel before it.

        `sent()` is called when they have been sent, `refused(error)` when the kernel does not take them; then the frame
        is not sent either.
        """
        self._held.append(_Held(request, frame, descriptors, sent, refused))
        if len(self._held) == 1:
            self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held, deque()
        while held:
            entry = held[0]
            if entry.descriptors:
                try:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", entry.descriptors))]
                    self._passing.sendmsg([entry.request.to_bytes(4, "big")], rights)
                except BlockingIOError:
                    self._held = held
                    self._loop.add_writer(self._passing, self._continue_held)
                    return
                except ConnectionError as error:
                    self._held = held
                    self._fail(f"its socket is broken: {error}")
                    return
                except OSError as error:  # EBADF: one of them is not open
                    held.popleft()
                    entry.refused(error)
                    continue
                except OverflowError:  # a number too large for a descriptor
                    held.popleft()
                    entry.refused(OSError(errno.EBADF, os.strerror(errno.EBADF)))
                    continue
                entry.sent()
            held.popleft()
            self.send(entry.request, entry.frame)
        if not self.congested:
            self._wake()

    def _continue_held(self) -> None:
        self._loop.remove_writer(self._passing)
        self._send_held()

    def _flush(self) -> None:
        self._flushing = False
        if self.closed or self._blocked:
            return
        data = self._cut + b"".join([frame for _, frame in self._unsent])
        if not data:
            self._wake()
            return
        try:
            written = os.write(self._writing, data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self._fail(f"its pipe is broken: {error}")
            return
        if written == len(data):
            self._unsent.clear()
            self._unsent_size = 0
            self._cut = b""
            self._wake()
        else:
            self._note_partial(written)
            self._blocked = True
            self._loop.add_writer(self._writing, self._writable)

    def _note_partial(self, written: int) -> None:
        """Find the frame in which a write of `written` bytes stopped: earlier ones were sent, later ones were not."""
        left = written - len(self._cut)
        if left < 0:
            self._cut = self._cut[written:]
            return
        self._cut = b""
        while left > 0:
            _, frame = self._unsent.popleft()
            self._unsent_size -= len(frame)
            if left < len(frame):
                self._cut = frame[left:]
            left -= len(frame)

    def _writable(self) -> None:
        self._loop.remove_writer(self._writing)
        self._blocked = False
        self._flush()

    @property
    def congested(self) -> bool:
        """Return whether more is queued than the worker takes at present."""
        return self._unsent_size > HIGH_WATER or len(self._held) > 0

    @property
    def sends_in_this_turn(self) -> bool:
        """Return whether a frame goes out at the end of this iteration of the loop."""
        return self._flushing and self._unsent_size > 0

    async def drained(self) -> None:
        """Wait until the queue is short enough, or the connection is lost."""
        while self.congested and not self.closed:
            room = self._loop.create_future()
            self._room.append(room)
            await room

    def _wake(self) -> None:
        if self._room:
            room, self._room = self._room, []
            for waiter in room:
                if not waiter.done():
                    waiter.set_result(None)

    def unsent(self) -> set[int]:
        """Return the ids of requests of which no byte has been sent: the worker cannot have started them."""
        return {request for request, _ in self._unsent} | {held.request for held in self._held}

    def withdraw(self, request: int) -> bool:
        """Take back the request with this id if no byte of it has been sent; return whether that was so."""
        for entry in self._unsent:
            if entry[0] == request:
                self._unsent.remove(entry)
                self._unsent_size -= len(entry[1])
                if not self.congested:
                    self._wake()
                return True
        return False

    # -- receiving --------------------------------------------------------------------------------------------------

    def read_rest(self) -> None:
        """Read everything that the worker wrote before its exit."""
        while not self.closed and self._readable():
            pass

    def _readable(self) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(self._reading, CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(f"its pipe is broken: {error}")
            return False
        try:
            if not data:
                self._decoder.finish()
                self._fail(CLOSED_PIPE)
                return False
            for kind, request, payload in self._decoder.feed(data):
                self._received(kind, request, payload)
            self._flush_soon()  # after the callers just woken, so that what they send next leaves in the same iteration
        except (ProtocolError, struct.error, LookupError, ValueError) as error:  # no frame, or a malformed payload
            self._fail(f"it sent garbage: {type(error).__name__}: {error}")
        return True

    # -- the end ----------------------------------------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        if not self.closed:
            self.close()
            self._lost(why)

    def close(self) -> None:
        """Close both pipes and the socket. Harmless when repeated."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._reading)
        self._loop.remove_writer(self._writing)
        self._loop.remove_writer(self._passing)
        self._close(self._reading)
        self._close(self._writing)
        self._passing.close()
        self._wake()


class _Held(NamedTuple):
    """A frame that waits until its descriptors have been sent, or that has to stay behind such a frame."""

    request: int
    frame: bytes
    descriptors: list[int]
    sent: Callable[[], None]
    refused: Callable[[OSError], None]


def _nothing(_: object = None) -> None:
    """Do nothing; the callback of a frame that has no descriptors."""
