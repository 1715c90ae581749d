"""Frames: the messages into which a worker and its parent divide the byte stream between them.

A frame is a header and a body. The header holds the length of the body, a check of that length and a CRC of the body
(12 bytes, big-endian); the body holds the kind (1 byte), the request id (4 bytes) and a payload whose layout is that of
its kind (`messages.py`). The length has a check of its own because a wrong length would not raise an error, but block.
"""

import struct
from binascii import crc32

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL_VERSION = 7  # raised with any change of the frames, their payloads or the worker's command line

COOKIE_SIZE = 16  # bytes
IDLE_STATUS = 86  # exit status of an idle worker: it has not begun any request that it has not answered

HELLO = 1  # worker -> parent: the version, sent first
START = 2  # parent -> worker: run a command
CANCEL = 3  # parent -> worker: end a command; the payload is the reason
CLOSE = 4  # parent -> worker: no more requests follow; exit when all are done
PING = 5  # parent -> worker: report which requests you hold
STARTED = 6  # worker -> parent: the program runs, with this pid; only for commands that run for a while
EXIT = 7  # worker -> parent: the run is over
FAILED = 8  # worker -> parent: the program could not be started
PONG = 9  # worker -> parent: the ids of the requests it holds; the frame's id is that of the PING
SIGNAL = 10  # parent -> worker: send a signal to a program; the payload is its number

KINDS = frozenset(range(HELLO, SIGNAL + 1))
MAX_BODY = 64 * 1024 * 1024  # bytes; a longer frame is garbage (argv and environment are limited to a few MiB)

_HEADER = struct.Struct("!III")
_BODY = struct.Struct("!BI")
HEADER_SIZE = _HEADER.size


class ProtocolError(Exception):
    """The other side sent bytes that are no frame."""


def encode(kind: int, request: int, payload: bytes = b"") -> bytes:
    """Return one frame of a kind, for a request id, with a payload."""
    body = _BODY.pack(kind, request) + payload
    length = len(body)
    return _HEADER.pack(length, _check(length), crc32(body)) + body


def _check(length: int) -> int:
    return (length * 2654435761 + 40503) & 0xFFFFFFFF  # Knuth's multiplicative hash: any changed bit shows


class FrameDecoder:
    """Divides a byte stream that arrives in arbitrary pieces into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> "Iterator[tuple[int, int, bytes]]":
        """Add `data` to the stream, and yield the frames that it completes as (kind, request id, payload).

        A generator, so that frames before a damaged one are delivered; it has to be exhausted.

        Raises:
            ProtocolError: The bytes are no frame. The decoder cannot be used after that.
        """
        buffer = self._buffer + data if self._buffer else data
        position, end = 0, len(buffer)
        while end - position >= HEADER_SIZE:
            length, check, crc = _HEADER.unpack_from(buffer, position)
            if check != _check(length) or not _BODY.size <= length <= MAX_BODY:
                raise ProtocolError(f"no frame: {buffer[position : position + 32]!r}")
            start = position + HEADER_SIZE
            if end - start < length:
                break
            position = start + length
            body = buffer[start:position]
            if crc32(body) != crc:
                raise ProtocolError(f"a damaged frame: {body[:32]!r}")
            kind, request = _BODY.unpack_from(body)
            if kind not in KINDS:
                raise ProtocolError(f"a frame of unknown kind {kind}")
            yield kind, request, body[_BODY.size :]
        self._buffer = buffer[position:]

    def finish(self) -> None:
        """Check that the stream has ended between two frames.

        Raises:
            ProtocolError: It has ended inside of a frame.
        """
        if self._buffer:
            raise ProtocolError(f"the stream ended inside a frame, after {len(self._buffer)} bytes of it")
