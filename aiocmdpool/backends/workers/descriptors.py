"""Receives descriptors that come beside frames, in messages that name the request they belong to (unix(7))."""

import array
import errno
import os
import socket

from aiocmdpool.standalone.wire.frames import ProtocolError

MAX_DESCRIPTORS = 2  # most descriptors in one message from a worker
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def receive_descriptors(passing: socket.socket, request: int, count: int) -> list[int]:
    """Return the `count` descriptors of the frame just received for `request`; they were sent before it.

    Raises:
        ProtocolError: The descriptors are not there, or do not belong to this request.
        OSError: This process has no free descriptor numbers for them (EMFILE).
    """
    try:
        message, ancillary, flags, _ = passing.recvmsg(4, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS), CLOSE_ON_EXEC)
    except OSError as error:
        raise ProtocolError(f"no descriptors for request {request}: {error}") from None
    received = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
    descriptors = received.tolist()
    expected = int.from_bytes(message, "big") == request
    if not expected or len(descriptors) != count:
        for fd in descriptors:
            os.close(fd)
        if expected and flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise ProtocolError(f"{len(descriptors)} descriptors for {message!r} instead of {count} for {request}")
    return descriptors
