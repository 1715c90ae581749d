"""A parent of the real worker program that does by hand, and in the order the test wants, what the package does."""

import array
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from contract.support import argv_of

import aiocmdpool.standalone
from aiocmdpool.standalone.kernel.launcher import lc_ctype_of
from aiocmdpool.standalone.wire import frames, messages
from aiocmdpool.standalone.wire.frames import PROTOCOL_VERSION, FrameDecoder

from .support import PATIENCE, start_payload

FOLDER = str(Path(aiocmdpool.standalone.__path__[0]))

Frame = tuple[int, int, bytes]


class FakeParent:
    """Starts a worker program, and talks to it without a loop.

    Args:
        version: What it is asked to speak.
        parent: The pid it is told, if not that of this process.
        interpreter: Options for Python.
        requests: The ends of the pipe on which it gets its requests, if not of one made here.
        group: The directory of a control group that it is to enter.
        page: Its page in a ledger.
        options: For `subprocess.Popen`.
    """

    def __init__(
        self,
        *,
        version: int = PROTOCOL_VERSION,
        parent: int | None = None,
        niceness: int = 0,
        interpreter: tuple[str, ...] = (),
        requests: tuple[int, int] | None = None,
        group: str = "",
        page: str = "",
        **options: Any,
    ) -> None:
        self.passing, theirs = socket.socketpair()
        requests_end, self.requests = requests or os.pipe()
        self.replies, replies_end = os.pipe()
        self.errors, errors_end = os.pipe()
        self.cookie = os.urandom(frames.COOKIE_SIZE // 2).hex()
        self.passing.send(self.cookie.encode())
        given = options.get("env", os.environ)
        python = [sys.executable, "-I", "-S", *interpreter, f"{FOLDER}/__main__.py"]
        settings = [str(version), str(theirs.fileno()), str(parent or os.getpid()), str(niceness)]
        self.process = subprocess.Popen(
            [*python, *settings, lc_ctype_of(given), group, "", page],
            stdin=requests_end,
            stdout=replies_end,
            stderr=errors_end,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            **options,
        )
        theirs.close()
        for fd in (requests_end, replies_end, errors_end):
            os.close(fd)
        self.pid = self.process.pid
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []  # not asked for yet
        self._words = ""

    # -- requests ---------------------------------------------------------------------------------------------------

    def send_raw(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self.requests, left) :]

    def send(self, kind: int, number: int = 0, payload: bytes = b"") -> None:
        self.send_raw(frames.encode(kind, number, payload))

    def start(self, number: int, *argv: str | bytes, **options: Any) -> None:
        self.send(frames.START, number, start_payload(*argv, **options))

    def cancel(self, number: int, reason: int = messages.CANCELLED) -> None:
        self.send(frames.CANCEL, number, bytes([reason]))

    def pass_descriptors(self, number: int, *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self.passing.sendmsg([number.to_bytes(4, "big")], rights)

    # -- replies ----------------------------------------------------------------------------------------------------

    def receive(self, *, kinds: tuple[int, ...] = (), number: int | None = None, seconds: float = PATIENCE) -> Frame:
        """The first frame of one of these kinds, to this request; the others are kept for whoever asks for them."""
        deadline = time.monotonic() + seconds
        while True:
            for index, frame in enumerate(self._frames):
                if (not kinds or frame[0] in kinds) and number in (None, frame[1]):
                    return self._frames.pop(index)
            self._read(deadline)

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.replies], [], [], left)[0]:
            raise TimeoutError(f"the worker does not say what is waited for; it has said {self._frames}")
        data = os.read(self.replies, 1 << 20)
        if not data:
            self._decoder.finish()
            raise EOFError(f"the worker has left: {self.last_words()}")
        self._frames += self._decoder.feed(data)

    def everything(self) -> list[Frame]:
        """All frames to the end of the stream, which must be a clean one."""
        with contextlib.suppress(EOFError):
            while True:
                self._read(time.monotonic() + PATIENCE)
        found, self._frames = self._frames, []
        return found

    def hello(self) -> tuple[int, int]:
        return messages.unpack_hello(self.receive(kinds=(frames.HELLO,))[2])

    def started(self, number: int) -> int:
        """The pid of a command that lives a while."""
        return messages.unpack_pid(self.receive(kinds=(frames.STARTED,), number=number)[2])

    def result(self, number: int | None = None, seconds: float = PATIENCE) -> messages.Exit:
        """How a command ended."""
        kind, _, payload = self.receive(kinds=(frames.EXIT, frames.FAILED), number=number, seconds=seconds)
        assert kind == frames.EXIT, messages.unpack_failed(payload)
        return messages.unpack_exit(payload)

    def failure(self, number: int) -> tuple[int, str]:
        """Why a command did not start."""
        kind, _, payload = self.receive(kinds=(frames.EXIT, frames.FAILED), number=number)
        assert kind == frames.FAILED, payload
        return messages.unpack_failed(payload)

    def answers(self) -> bool:
        """Whether it is there and listens."""
        number = int.from_bytes(os.urandom(3), "big")
        self.send(frames.PING, number)
        return self.receive(kinds=(frames.PONG,), number=number)[1] == number

    def take_descriptors(self) -> tuple[int, list[int]]:
        """The next descriptors handed over: for which request, and they."""
        message, ancillary, _, _ = self.passing.recvmsg(4, socket.CMSG_SPACE(16))
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        return int.from_bytes(message, "big"), fds.tolist()

    def last_words(self) -> str:
        """What it has written to stderr."""
        os.set_blocking(self.errors, False)
        with contextlib.suppress(BlockingIOError):
            self._words += os.read(self.errors, 1 << 20).decode()
        return self._words

    # -- the end ----------------------------------------------------------------------------------------------------

    def close_requests(self) -> None:
        """The end of the pipe, which is how a worker sees that its parent is gone."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_requests()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            os.close(self.replies)
            os.close(self.errors)
            self.passing.close()


def hostile_commands(parent: FakeParent, ready: Any) -> list[int]:
    """A sleeping one, one that ignores TERM, a family, and escapees of every kind; their pids."""
    parent.start(1, "sleep", "60")
    parent.start(2, *argv_of("ignore_sigterm", ready.path), grace=60.0)
    pids = [parent.started(1), int(ready.wait_blocking())]
    parent.start(3, *argv_of("grandchildren", ready.path, "stubborn"), grace=60.0)
    pids += [int(ready.wait_blocking()) for _ in range(4)]
    parent.start(4, *argv_of("double_fork", ready.path, "stay", "session"))
    pids += [int(ready.wait_blocking()) for _ in range(2)]
    escape = 'setsid env -i sh -c "trap : TERM; echo \\$\\$ >$1; exec sleep 60" >/dev/null 2>&1 & echo $$ >"$1"; wait'
    parent.start(5, "sh", "-c", escape, "sh", ready.path)
    pids += [int(ready.wait_blocking()) for _ in range(2)]
    return pids
