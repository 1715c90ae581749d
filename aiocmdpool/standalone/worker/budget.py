"""The worker's word in the ledger of its pool: how much more captured output may be put into memory files.

All workers of a pool share one budget, and the need of a command is known only while it writes. So the pool shares a
small file with them, an array of 64-bit words. Fixed shares would lie idle in one worker while another one lacks them,
and frames would make a command wait with a full pipe:

    word 0      the bytes that all may have put in so far: the budget, and whatever has been given back since
    word 1      not 0 since a worker found nothing left; the pool clears it
    word 2 …    the bytes that each worker has put in so far

A word has one writer (except word 1, whose value does not depend on the writer), so no lock is needed. Workers that
read at the same time may all take what is left: the budget is exact except for one read (1 MiB at most) of each of
them.

A worker serves one pool, so this is a module and not an object to pass around.
"""

import errno
import os
import struct

LIMIT, USED_UP, WORKERS = range(3)  # indexes of words: see above
WORD = 8  # bytes
LARGEST = 65536  # bytes of the file that are read: 8190 workers
_word = struct.Struct("=q")

ledger = -1  # descriptor of the file; -1 without a limit
own_word = 0  # index of this worker's word


def join(page: str) -> None:
    """Use the ledger that `page` names as "DESCRIPTOR:WORD"; empty for no limit."""
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
    """Count `size` bytes as put into a memory file; a negative size takes them out again."""
    if ledger >= 0 and size:
        words = _words()
        _write(words[own_word] + size, own_word)
        # After the count: the pool clears this word and then reads the counts, so at least one of the two sees the
        # other.
        if words[LIMIT] - sum(words[WORKERS:]) <= size:
            _write(1, USED_UP)


def _write(value: int, word: int) -> None:
    try:
        os.pwrite(ledger, _word.pack(value), word * WORD)
    except OSError as failure:
        if failure.errno != errno.EFBIG:  # writing so far into a file is not allowed (ulimit -f), but a mapping is
            raise
        import mmap  # few workers need it

        with mmap.mmap(ledger, 0) as mapped:
            mapped[word * WORD : (word + 1) * WORD] = _word.pack(value)


def _words() -> "tuple[int, ...]":
    data = os.pread(ledger, LARGEST, 0)
    return struct.unpack(f"={len(data) // WORD}q", data[: len(data) // WORD * WORD])
