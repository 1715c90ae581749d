"""`Channel`: the worker's side of the connection to its parent: frames over two pipes, descriptors over a socket.

The pipes arrive as 0 and 1. They are moved away at once and replaced by the null device, so that nothing that a program
or a library prints can get between the frames (bazel#4897). Writes are collected and go out in one system call per
iteration of the loop; what the pipe does not take waits until it does.
"""

import _socket as socket  # `socket` itself, `collections` and `array` would cost each worker 0.4 to 0.5 MB
import errno
import os
import struct
from _collections import deque  # type: ignore[import-not-found]  # what `collections.deque` is

from ..loop.poller import WRITE, Poller
from ..wire import frames

HIGH_WATER = 1024 * 1024  # bytes of unsent replies above which the worker takes no new work
CHUNK = 65536  # bytes per read or write, the capacity of the pipe
MAX_DESCRIPTORS = 253  # in one message (SCM_MAX_FD, unix(7))
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """The connection to the parent: sends and receives frames, and passes descriptors beside them.

    Args:
        poller: The poller that watches the pipes.
        socket_fd: The socket for descriptors.
        received: Called with (kind, request id, payload) for each frame.
        ended: Called when the parent is gone.
    """

    def __init__(self, poller: Poller, socket_fd: int, received, ended) -> None:  # type: ignore[no-untyped-def]
        self._poller = poller
        self._received = received
        self._ended = ended
        self._decoder = frames.FrameDecoder()
        self._in, self._out = _private_pipes()
        self._socket = socket.socket(fileno=socket_fd)
        self._socket.setblocking(False)
        self._frames: deque[bytes] = deque()
        self._unsent = 0  # number of bytes in them
        self._blocked = False  # whether the pipe is full
        self._waiting: list[tuple[bytes, list[int], bytes]] = []  # messages that the socket did not take
        poller.watch(self._in, self._readable)

    def send(self, frame: bytes) -> None:
        """Queue a frame; it goes out at the next `flush`."""
        self._frames.append(frame)
        self._unsent += len(frame)

    def send_with_descriptors(self, number: int, descriptors: "list[int]", frame: bytes) -> None:
        """Queue a frame of request `number` behind its descriptors, which are closed here once they are sent."""
        self._waiting.append((number.to_bytes(4, "big"), descriptors, frame))
        self._send_descriptors()

    def _send_descriptors(self, _: int = 0) -> None:
        while self._waiting:
            message, descriptors, frame = self._waiting[0]
            try:
                self._socket.sendmsg(
                    [message],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))],
                )
            except OSError as failure:
                # ETOOMANYREFS: too many descriptors of this user are in flight (unix(7)); the parent receives them
                # soon.
                if failure.errno in (errno.EAGAIN, errno.ETOOMANYREFS):
                    self._poller.watch(self._socket.fileno(), self._send_descriptors, WRITE)
                else:  # the parent is gone
                    self._ended()
                return
            for fd in descriptors:
                os.close(fd)
            self.send(frame)
            del self._waiting[0]
        self._poller.forget(self._socket.fileno())

    def held(self) -> "list[int]":
        """Return the ids of requests whose replies wait for descriptors to be sent; other frames overtake them."""
        return [int.from_bytes(message, "big") for message, _, _ in self._waiting]

    def receive_descriptors(self, number: int, count: int) -> "list[int]":
        """Return the `count` descriptors of request `number`. They were sent before it, so they are there."""
        self._socket.setblocking(True)
        try:
            message, ancillary, _, _ = self._socket.recvmsg(4, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS), CLOSE_ON_EXEC)
        finally:
            self._socket.setblocking(False)
        descriptors: list[int] = []
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        if int.from_bytes(message, "big") != number or len(descriptors) != count:
            raise frames.ProtocolError(f"{len(descriptors)} descriptors for {message!r}, not {count} for {number}")
        for fd in descriptors:
            os.set_inheritable(fd, False)  # on systems without CLOSE_ON_EXEC
        return descriptors

    def flush(self) -> None:
        """Write the queued frames, as far as the pipe takes them."""
        if self._frames and not self._blocked:
            self._write()

    def _write(self, _: int = 0) -> None:
        frames = self._frames
        while frames:
            batch = []
            size = 0
            while frames and size < CHUNK:
                batch.append(frames.popleft())
                size += len(batch[-1])
            data = b"".join(batch)
            try:
                written = os.write(self._out, data)
            except BlockingIOError:
                written = 0
            except OSError:  # the parent is gone
                frames.clear()
                self._ended()
                return
            self._unsent -= written
            if written < len(data):
                frames.appendleft(data[written:])
                self._block(True)
                return
        self._block(False)

    def _block(self, blocked: bool) -> None:
        if blocked and not self._blocked:
            self._poller.watch(self._out, self._write, WRITE)
        elif self._blocked and not blocked:
            self._poller.forget(self._out)
        self._blocked = blocked

    @property
    def congested(self) -> bool:
        """Return whether so many replies are unsent that no new work should be taken."""
        return self._unsent > HIGH_WATER

    @property
    def idle(self) -> bool:
        """Return whether all frames have been written."""
        return not self._frames and not self._waiting

    def abandon(self) -> None:
        """Drop all unsent frames, because nobody reads them any more."""
        self._frames.clear()
        self._waiting.clear()

    def _readable(self, _: int) -> None:
        try:
            data = os.read(self._in, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._poller.forget(self._in)
            self._ended()
            return
        for kind, number, payload in self._decoder.feed(data):
            self._received(kind, number, payload)


def _private_pipes() -> "tuple[int, int]":
    """Move the protocol from descriptors 0 and 1 to others, and put the null device there."""
    inward, outward = os.dup(0), os.dup(1)  # close-on-exec (PEP 446)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    os.set_blocking(inward, False)
    os.set_blocking(outward, False)
    return inward, outward
