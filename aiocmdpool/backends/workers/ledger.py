"""The budget of a process pool for captured output: the pool's side of the file that its workers draw on.

`standalone/worker/budget.py` says what is in the file, and why it is a file. Held are bytes in memory files, from the
worker that writes them until the result of their command has been handed to its caller. What rides in a reply (64 KiB
a stream at most) is not counted: so it costs nothing, and is bounded by the number of commands.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import resource
import tempfile
from collections.abc import Iterable

from aiocmdpool.backends.workers.private import keep_private
from aiocmdpool.commands.validate import ByteBudget
from aiocmdpool.loops.line import WaitingLine
from aiocmdpool.standalone.worker.budget import LIMIT, USED_UP, WORD, WORKERS
from aiocmdpool.system.launch import above_standard
from aiocmdpool.system.memory import default_output_budget

MOST = 2**62  # bytes: no machine has them, and a word of the file holds them with what is given back
PAGES = 8  # so many more at a time; workers look at all of them, so there are not to be many that nobody has


class Ledger:
    """What all workers of a pool may hold together.

    Args:
        limit: Bytes. `None`: no bound. "auto": half of what is free when the first worker starts.
    """

    def __init__(self, limit: ByteBudget) -> None:
        self.limit = min(limit, MOST) if isinstance(limit, int) else limit
        self._chosen_here = False  # rather than by who made the pool
        self.line = WaitingLine()
        """Commands that wait until there is room."""
        self.descriptor = -1
        keep_private(self)
        self.words: memoryview[int] | list[int] = [0] * WORKERS
        """Those of the file; a list where there is none: no bound, or not yet."""
        self._map: mmap.mmap | None = None
        self._free: list[int] = []  # words for workers to come

    def private(self) -> Iterable[int]:
        """For `keep_private`."""
        return (self.descriptor,)

    def has_room(self) -> bool:
        """Look whether anything is left, and note it."""
        self.words[USED_UP] = 0  # first: a worker that puts in the last of it meanwhile says so afterwards
        if self._map is not None and self.words[LIMIT] <= self._put_in() and self.held() > 0:
            self.words[USED_UP] = 1
            return False
        return True

    def held(self) -> int:
        """Return how many bytes are held; 0 where there is no bound."""
        if self._map is None or not isinstance(self.limit, int):
            return 0
        return self.limit - self.words[LIMIT] + self._put_in()

    def _put_in(self) -> int:
        return sum(self.words[WORKERS:])

    # -- pages ------------------------------------------------------------------------------------------------------

    def page(self) -> "Page":
        """Open a page for a new worker.

        Raises:
            OSError: There is no descriptor or no memory left for the file, or it would be too large (ulimit -f).
        """
        if self.limit == "auto":
            self._chosen_here = True
            self.limit = default_output_budget()
        if self.limit is not None and not self._free:
            try:
                self._enlarge()
            except OSError as error:
                if error.errno != errno.EFBIG or not self._chosen_here or self._map is not None:
                    raise
                self.limit = None  # no file may have even these bytes (ulimit -f 0): there is nothing to share
        return Page(self, self._free.pop() if self._free else -1)

    def _enlarge(self) -> None:
        is_new = self._map is None
        if self.descriptor < 0:
            self.descriptor = above_standard(_open_file())
        count = len(self.words)
        _lengthen(self.descriptor, (count + PAGES) * WORD)
        enlarged = mmap.mmap(self.descriptor, (count + PAGES) * WORD)
        self._unmap()
        self._map, self.words = enlarged, memoryview(enlarged).cast("q")
        self._free += range(count, count + PAGES)
        if is_new and isinstance(self.limit, int):
            self.words[LIMIT] = self.limit

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file; what is given back later counts no more. Harmless when repeated."""
        self._unmap()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _unmap(self) -> None:
        if self._map is not None:
            mapped, self.words = self.words, list(self.words)
            self.words[USED_UP] = 0
            if isinstance(mapped, memoryview):
                mapped.release()
            self._map.close()
            self._map = None

    def __del__(self) -> None:
        self.close()


class Page:
    """One worker's page in a ledger."""

    def __init__(self, ledger: Ledger, word: int) -> None:
        self._ledger = ledger
        self._word = word
        self._taken_over = 0 if word < 0 else ledger.words[word]  # what another worker left the count at
        self._given_back = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the worker inherits."""
        return () if self._word < 0 else (self._ledger.descriptor,)

    def __str__(self) -> str:
        """What stands in the worker's command line."""
        return "" if self._word < 0 else f"{self._ledger.descriptor}:{self._word}"

    def give_back(self, size: int) -> None:
        """Note that so many bytes that the worker has put in are held no more."""
        if self._word >= 0:
            self._given_back += size
            self._ledger.words[LIMIT] += size

    def close(self) -> None:
        """The worker is dead: give back all that it has put in and nobody has given back. Harmless when repeated."""
        if self._word >= 0:
            put_in = self._ledger.words[self._word] - self._taken_over
            self._ledger.words[LIMIT] += put_in - self._given_back
            self._ledger._free.append(self._word)
            self._word = -1


def _open_file() -> int:
    """Open an empty file, in memory where a sandbox lets one.

    There nobody can make it shorter: to touch a mapping without a file below it kills (SIGBUS).
    """
    try:
        fd = os.memfd_create("aiocmdpool-ledger", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not this system; forbidden (seccomp, vm.memfd_noexec), or no descriptors left
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    with contextlib.suppress(OSError):  # a kernel that only pretends to be Linux
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def _lengthen(fd: int, size: int) -> None:
    """Give a file this size, whatever the soft limit on the size of files: this one is not on a disk."""
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        try:
            os.ftruncate(fd, size)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
