"""`Capture`: the part of a captured stream that is kept. Pure: no descriptor, no loop."""

import io
import sys

from aiocmdpool.commands.command import OutputPolicy
from aiocmdpool.standalone.worker.output import INLINE
from aiocmdpool.system.output_budget import Allowance

AT_ONCE = 1024 * 1024  # bytes moved at a time when a tail is put in order


class Capture:
    """Collects a stream under a limit that is applied while reading, so that memory stays bounded.

    All of it is held only once: a tail is kept as in a ring, where new bytes replace the oldest, and the result is the
    buffer itself (`BytesIO.getvalue` makes no copy while nothing else refers to it).

    Args:
        limit: Bytes to keep; `None` for no limit of its own.
        policy: What to do at the limit.
        allowance: Source of all bytes beyond 64 KiB; when it has no more, that is the limit.
    """

    __slots__ = ("_allowance", "_buffer", "_limit", "_place", "_policy", "_size", "truncated")

    def __init__(self, limit: int | None, policy: OutputPolicy, allowance: Allowance | None = None) -> None:
        self._buffer = io.BytesIO()
        self._limit = sys.maxsize if limit is None else limit
        self._policy = policy
        self._allowance = allowance
        self._size = 0  # number of bytes kept
        self._place = 0  # offset of the next byte
        self.truncated = False

    def add(self, data: bytes) -> bool:
        """Add `data`; return `False` if the limit is exceeded under `OutputPolicy.FAIL`."""
        left = memoryview(data)
        if self._policy is OutputPolicy.KEEP_TAIL and len(left) > self._limit:
            self.truncated = True
            left = left[len(left) - self._limit :]
        while left:
            count = self._takes(len(left))
            if not count:
                self.truncated = True
                return self._policy is not OutputPolicy.FAIL
            self._write(left[:count])
            left = left[count:]
        return True

    def _takes(self, count: int) -> int:
        """Return how many of `count` bytes may be written at `_place` in one piece; 0 if no more are kept."""
        if self._size == self._place < self._limit:  # still growing
            count = min(count, self._limit - self._size)
            allowed = self._allowed(count)
            if allowed < count:  # the allowance is used up, so this is the limit from now on
                self._limit = self._size + allowed
            if allowed:
                return allowed
        if self._policy is not OutputPolicy.KEEP_TAIL:
            return 0
        if self._place == self._limit:
            self._place = self._buffer.seek(0)
        return min(count, self._limit - self._place)

    def _allowed(self, count: int) -> int:
        """Return by how many of `count` bytes the buffer may grow."""
        beyond = self._size + count - INLINE
        if self._allowance is None or beyond <= 0:
            return count
        wanted = min(count, beyond)
        return count - wanted + self._allowance.take(wanted)

    def _write(self, data: memoryview) -> None:
        self._place += self._buffer.write(data)
        if self._place - len(data) < self._size:  # some of it has replaced older bytes
            self.truncated = True
        self._size = max(self._size, self._place)

    def result(self) -> bytes:
        """Return all bytes kept, in order."""
        if self._place < self._size:
            with self._buffer.getbuffer() as whole:
                rotate(whole, self._place)
            self._place = self._buffer.seek(self._size)
        return self._buffer.getvalue()


def rotate(data: memoryview, middle: int) -> None:
    """Put what is before `middle` behind the rest, in place: blocks of equal size change places (Gries and Mills)."""
    begin, end = 0, len(data)
    while middle - begin > AT_ONCE and end - middle > AT_ONCE:
        before, behind = middle - begin, end - middle
        if before <= behind:
            _swap(data, begin, middle, before)
            begin, middle = begin + before, middle + before
        else:
            _swap(data, middle - behind, middle, behind)
            middle, end = middle - behind, end - behind
    if middle - begin <= end - middle:
        few = bytes(data[begin:middle])
        data[begin : end - len(few)] = data[middle:end]
        data[end - len(few) : end] = few
    else:
        few = bytes(data[middle:end])
        data[begin + len(few) : end] = data[begin:middle]
        data[begin : begin + len(few)] = few


def _swap(data: memoryview, one: int, other: int, size: int) -> None:
    for offset in range(0, size, AT_ONCE):
        length = min(AT_ONCE, size - offset)
        here, there = data[one + offset :][:length], data[other + offset :][:length]
        few = bytes(here)
        here[:] = there
        there[:] = few
