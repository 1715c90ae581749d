"""`Ledger`: the budget of a process pool for captured output, as the pool's side of the file that its workers share.

`standalone/worker/budget.py` describes the file, and why it is a file. Counted are bytes in memory files, from the
worker that writes them until their command's result has been handed to its caller. Output inside of a reply (64 KiB a
stream at most) is not counted: that costs nothing, and is bounded by the number of commands.
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
from aiocmdpool.standalone.worker.budget import COUNT, LIMIT, USED_UP, WORD, WORKERS
from aiocmdpool.system.launch import above_standard
from aiocmdpool.system.memory import default_output_budget

MOST = 2**62  # bytes: more than any machine has, and still a word of the file after returns are added
PAGES = 8  # words added at a time; only a few, because workers sum over all of them


class Ledger:
    """The limit on the captured bytes that all workers of a pool hold together.

    Args:
        limit: Number of bytes. `None`: no limit. "auto": half of the free memory when the first worker starts.
    """

    def __init__(self, limit: ByteBudget) -> None:
        self.limit = min(limit, MOST) if isinstance(limit, int) else limit
        self._chosen_here = False  # and not by the user of the pool
        self.line = WaitingLine()
        """Commands that wait until some of the budget is left."""
        self.descriptor = -1
        keep_private(self)
        self.words: memoryview[int] | list[int] = [0] * WORKERS
        """Words of the file; a plain list if there is no file, for lack of a limit or not yet."""
        self._map: mmap.mmap | None = None
        self._free: list[int] = []  # indexes of words for workers to come

    def private(self) -> Iterable[int]:
        """Return the descriptor of the file, for `keep_private`."""
        return (self.descriptor,)

    def has_headroom(self) -> bool:
        """Return whether any of the budget is left, and set the USED_UP word to match."""
        self.words[USED_UP] = 0  # first, because a worker that takes the last of it meanwhile sets the word afterwards
        if self._map is not None and self.words[LIMIT] <= self._put_in() and self.held() > 0:
            self.words[USED_UP] = 1
            return False
        return True

    def held(self) -> int:
        """Return the number of bytes held now; 0 without a limit."""
        if self._map is None or not isinstance(self.limit, int):
            return 0
        return self.limit - self.words[LIMIT] + self._put_in()

    def _put_in(self) -> int:
        return sum(self.words[WORKERS:])

    # -- pages ------------------------------------------------------------------------------------------------------

    def page(self) -> "Page":
        """Return a page for a new worker.

        Raises:
            OSError: The file cannot be made: no free descriptor, no memory, or a limit on file size (ulimit -f).
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
                self.limit = None  # not even this small file is allowed (ulimit -f 0), so there is nothing to share
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
        self.words[COUNT] = len(self.words)
        self._free += range(count, count + PAGES)
        if is_new and isinstance(self.limit, int):
            self.words[LIMIT] = self.limit

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file; returns of bytes after that have no effect. Harmless when repeated."""
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
    """The word of one worker in a ledger, in which it counts the bytes that it has put in."""

    def __init__(self, ledger: Ledger, word: int) -> None:
        self._ledger = ledger
        self._word = word
        self._taken_over = 0 if word < 0 else ledger.words[word]  # the count that a former worker has left in the word
        self._given_back = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that the worker inherits."""
        return () if self._word < 0 else (self._ledger.descriptor,)

    def __str__(self) -> str:
        """Return the page as the worker gets it in its command line."""
        return "" if self._word < 0 else f"{self._ledger.descriptor}:{self._word}"

    def give_back(self, size: int) -> None:
        """Return `size` bytes to the budget that the worker had put in."""
        if self._word >= 0:
            self._given_back += size
            self._ledger.words[LIMIT] += size

    def close(self) -> None:
        """Return all bytes of the dead worker that nobody has given back. Harmless when repeated."""
        if self._word >= 0:
            put_in = self._ledger.words[self._word] - self._taken_over
            self._ledger.words[LIMIT] += put_in - self._given_back
            self._ledger._free.append(self._word)
            self._word = -1


def _open_file() -> int:
    """Open an empty file, in memory if the sandbox allows that, and return its descriptor.

    In memory it can be sealed against shrinking: access to a mapping beyond the end of its file kills (SIGBUS).
    """
    try:
        fd = os.memfd_create("aiocmdpool-ledger", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not on this system, forbidden (seccomp, vm.memfd_noexec), or no descriptor
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    with contextlib.suppress(OSError):  # a kernel that only emulates Linux
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def _lengthen(fd: int, size: int) -> None:
    """Set the size of a file in bytes, in spite of the soft limit on file sizes: this file is not on a disk."""
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
