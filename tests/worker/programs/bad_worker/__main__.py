"""A worker program that behaves as the test wants: what the variable BAD_WORKER holds is its script, in Python.

The names below are what a script is written in. Started like the real one; BAD_WORKER_CODEC is the folder in which the
package `standalone` with the codec is found.
"""

import array
import os
import socket
import sys
import time

sys.path.insert(0, os.environ["BAD_WORKER_CODEC"])
from standalone.wire import frames, messages
from standalone.wire.frames import encode

sock = socket.socket(fileno=int(sys.argv[2]))
cookie = sock.recv(frames.COOKIE_SIZE).decode()
_decoder = frames.FrameDecoder()
_received: list = []
held: dict = {}
"""The ids of all requests taken so far: what it says that it holds. (Of those answered, nobody minds.)"""


def write(data: bytes) -> None:
    """Bytes into the pipe to the parent, all of them."""
    while data:
        data = data[os.write(1, data) :]


def hello() -> None:
    write(encode(frames.HELLO, 0, messages.pack_hello(frames.PROTOCOL_VERSION, os.getpid())))


def take() -> tuple:
    """The next frame; the end of the pipe ends this program."""
    while not _received:
        data = os.read(0, 65536)
        if not data:
            sys.exit(0)
        _received.extend(_decoder.feed(data))
    kind, number, payload = _received.pop(0)
    if kind == frames.START:
        held[number] = None
    return kind, number, payload


def pong(number: int) -> bytes:
    """The frame that answers a ping."""
    return encode(frames.PONG, number, messages.pack_held(list(held)))


def start() -> int:
    """The number of the next request to start something."""
    while True:
        kind, number, _ = take()
        if kind == frames.START:
            return number
        if kind == frames.PING:
            write(pong(number))


def result(number: int, **fields) -> bytes:
    """The frame that says that a program has exited with 0 and printed `fake`."""
    given = {
        "reason": messages.EXITED,
        "flags": 0,
        "tier": messages.NOTHING,
        "returncode": 0,
        "pid": 4242,
        "duration": 0.5,
        "user": 0.1,
        "system": 0.2,
        "max_rss": 0,
        "stdout": b"fake",
        "stderr": b"",
        "leaked": [],
    }
    return encode(frames.EXIT, number, messages.pack_exit(messages.Exit(**{**given, **fields})))


def started(number: int, pid: int = 4242) -> bytes:
    return encode(frames.STARTED, number, messages.pack_pid(pid))


def hand_over(number: int, *fds: int) -> None:
    sock.sendmsg([number.to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def serve() -> None:
    """Answer every request from now on; leave when told to."""
    while True:
        kind, number, _ = take()
        if kind == frames.START:
            write(result(number))
        elif kind == frames.PING:
            write(pong(number))
        elif kind == frames.CLOSE:
            sys.exit(0)


def answer_pings() -> None:
    """Be there, and do nothing else."""
    while True:
        kind, number, _ = take()
        if kind == frames.PING:
            write(pong(number))


def be_silent() -> None:
    """Neither read nor write."""
    time.sleep(60)


def say(path: str, *words: object) -> None:
    """A line to a named pipe of the test."""
    with open(path, "w") as pipe:
        print(*words, file=pipe)


exec(os.environ["BAD_WORKER"])
