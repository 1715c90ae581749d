"""Sources of inputs, read no faster than they are used: a billion lines take one chunk of memory."""

import asyncio
import functools
import os
import stat
from typing import Protocol

from aiocmdpool.cli.readiness import Readiness, resolve

CHUNK = 64 * 1024  # bytes per read, the capacity of a pipe
MAX_INPUT = 1024 * 1024  # bytes; Linux takes no argument above 128 KiB, so a longer line means a wrong separator


class InputError(Exception):
    """Inputs cannot be read; the message is for people."""


class Inputs(Protocol):
    """The interface of a source of inputs."""

    async def next_batch(self) -> list[str]:
        """Return the next inputs, in order; an empty list at the end. It can be cancelled at any time.

        Raises:
            InputError: Reading failed.
        """
        ...

    def estimated_total(self) -> int | None:
        """Return the estimated number of all inputs; `None` without an estimate."""
        ...

    def exact_total(self) -> int | None:
        """Return the number of all inputs; `None` if the end has not been seen."""
        ...

    def close(self) -> None:
        """Stop reading, and release what is watched."""
        ...


class GivenInputs:
    """Inputs that are given after `:::`."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self._left = list(inputs)
        self._total = len(inputs)

    async def next_batch(self) -> list[str]:
        batch, self._left = self._left, []
        return batch

    def estimated_total(self) -> int | None:
        return self._total

    def exact_total(self) -> int | None:
        return self._total

    def close(self) -> None:
        self._left = []


class StreamInputs:
    """Lines, or records that end in NUL, from an open descriptor.

    Bytes become text as file names do (`os.fsdecode`), so that what is no valid UTF-8 still reaches the command
    byte for byte.

    Args:
        fd: Descriptor open for reading; it is shared, so its flags are not changed.
        name: Name of the source, for messages.
        separator: The byte after each input; the last one may lack it.
    """

    def __init__(self, fd: int, name: str, separator: bytes = b"\n") -> None:
        self.fd = fd
        self.name = name
        self._separator = separator
        self._carry = b""
        self._given = 0
        self._ended = False
        try:
            status = os.fstat(fd)
            regular = stat.S_ISREG(status.st_mode)
            self._first = self._position = os.lseek(fd, 0, os.SEEK_CUR) if regular else 0
        except OSError as error:
            raise InputError(f"cannot read {name}: {error.strerror}") from None
        self._size = status.st_size if regular else None
        self._readiness = None if regular else _watch(fd)

    async def next_batch(self) -> list[str]:
        while not self._ended:
            chunk = await self._read()
            batch = self._cut(chunk)
            if batch:
                return batch
        return []

    def _cut(self, chunk: bytes) -> list[str]:
        """Return the inputs completed by `chunk`; an empty chunk completes the last."""
        if not chunk:
            self._ended = True
            last, self._carry = self._carry, b""
            self._given += bool(last)
            return [os.fsdecode(last)] if last else []
        data = self._carry + chunk
        end = data.rfind(self._separator)
        self._carry = data[end + 1 :]
        if len(self._carry) > MAX_INPUT:
            hint = "" if self._separator == b"\0" else "; is it separated by NUL bytes? Then use -0"
            raise InputError(f"{self.name}: an input longer than {MAX_INPUT // 1024} KiB{hint}")
        # The separator is ASCII, so it cannot be a part of a longer character.
        batch = os.fsdecode(data[:end]).split(self._separator.decode()) if end >= 0 else []
        self._given += len(batch)
        return batch

    async def _read(self) -> bytes:
        while True:
            await asyncio.sleep(0)  # a file or a full pipe never makes this wait: yield to other tasks
            if self._readiness is not None and not self._readiness.now():
                await _ready(self._readiness)
            try:
                chunk = os.read(self.fd, CHUNK)
            except BlockingIOError:  # another process made it non-blocking and took the data
                continue
            except OSError as error:
                raise InputError(f"cannot read {self.name}: {error.strerror}") from None
            self._position += len(chunk)
            return chunk

    def exact_total(self) -> int | None:
        return self._given if self._ended else None

    def estimated_total(self) -> int | None:
        if self._ended:
            return self._given
        if self._size is None or not self._given:
            return None
        done = self._position - len(self._carry) - self._first
        left = max(0, self._size - self._position + len(self._carry))
        return self._given + round(left * self._given / done)

    def close(self) -> None:
        self._ended = True
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None


def _watch(fd: int) -> Readiness | None:
    try:
        return Readiness(fd)
    except PermissionError:
        return None


async def _ready(readiness: Readiness) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    readiness.call_once(functools.partial(resolve, ready))
    try:
        await ready
    finally:
        readiness.forget()
