"""The worker's page in the ledger of its pool: how much captured output may still be put into memory files.

All workers of a pool draw on one budget, and what one command needs is known only while it writes. So the pool shares a
small file with them, an array of 64-bit words, rather than giving out shares that would lie idle in one worker while
another one lacks them, or frames that a command would have to wait for with a full pipe:

    word 0      the bytes that all may have put in so far: the budget, and whatever has been given back since
    word 1      not 0 since a worker found nothing left; the pool clears it
    word 2 …    the bytes that each worker has put in so far

A word has one writer (but for word 1, which means the same whoever wrote it), so there is nothing to lock. Workers that
look at the same time may all take what is left: the budget is exact but for one read (1 MiB at most) of each of them.

A worker serves one pool, so this is a module rather than an object to be handed through.
"""

import errno
import os
import struct

LIMIT, USED_UP, WORKERS = range(3)  # words: see above
WORD = 8  # bytes
LARGEST = 65536  # bytes of the file that are read: 8190 workers
_word = struct.Struct("=q")

ledger = -1  # the file; none if there is no bound
own_word = 0  # the number of the word of this worker


def join(page: str) -> None:
    """Take part in a ledger; `page` is "DESCRIPTOR:WORD", or empty for no bound."""
    global ledger, own_word
    if page:
        descriptor, _, word = page.partition(":")
        ledger, own_word = int(descriptor), int(word)
        os.set_inheritable(ledger, False)


def left(wanted: int) -> int:
    """Return how many of the `wanted` bytes may be put into a memory file now."""
    if ledger < 0 or wanted <= 0:
        return wanted
    words = _words()
    room = max(0, words[LIMIT] - sum(words[WORKERS:]))
    if not room:
        _write(1, USED_UP)
    return min(room, wanted)


def add(size: int) -> None:
    """Note that `size` bytes have been put into a memory file; a negative size takes them out again."""
    if ledger >= 0 and size:
        words = _words()
        _write(words[own_word] + size, own_word)
        # Behind the count: the pool clears this word and then looks, so that one of the two sees it.
        if words[LIMIT] - sum(words[WORKERS:]) <= size:
            _write(1, USED_UP)


def _write(value: int, word: int) -> None:
    try:
        os.pwrite(ledger, _word.pack(value), word * WORD)
    except OSError as failure:
        if failure.errno != errno.EFBIG:  # no file may be written so far (ulimit -f); what is mapped may be
            raise
        import mmap  # which few workers need

        with mmap.mmap(ledger, 0) as mapped:
            mapped[word * WORD : (word + 1) * WORD] = _word.pack(value)


def _words() -> "tuple[int, ...]":
    data = os.pread(ledger, LARGEST, 0)
    return struct.unpack(f"={len(data) // WORD}q", data[: len(data) // WORD * WORD])
