"""The worker's word in the ledger of its pool: how much more captured output may be put into memory files.

All workers of a pool share one budget, and the need of a command is known only while it writes. So the pool shares a
small file with them, an array of 64-bit words. Fixed shares would lie idle in one worker while another one lacks them,
and frames would make a command wait with a full pipe:

    word 0      the bytes that all may have put in so far: the budget, and whatever has been given back since
    word 1      not 0 since a worker found nothing left; the pool clears it
    word 2      how many words there are: the pool makes the file longer for more workers
    word 3 …    the bytes that each worker has put in so far

A word has one writer (except word 1, whose value does not depend on the writer), so no lock is needed. Workers that
read at the same time may all take what is left: the budget is exact except for one read (1 MiB at most) of each of
them.

A worker serves one pool, so this is a module and not an object to pass around.
"""

import os

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    import mmap

LIMIT, USED_UP, COUNT, WORKERS = range(4)  # indexes of words: see above
WORD = 8  # bytes
NEARLY_USED_UP = 1024 * 1024 * 1024  # bytes: more than all workers can put in between a worker's look and its count

ledger = -1  # descriptor of the file; -1 without a limit
own_word = 0  # index of this worker's word
_mapped: "memoryview[int] | None" = None  # the file, as far as it went when it was mapped
_headroom = 0  # bytes that were left at the last look


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
    global _headroom
    words = _mapped if _mapped is not None and _mapped[COUNT] == len(_mapped) else _words()
    _headroom = words[LIMIT] - sum(words[WORKERS:])
    if _headroom >= wanted:
        return wanted
    if _headroom <= 0:
        words[USED_UP] = 1
        return 0
    return _headroom


def add(size: int) -> None:
    """Count `size` bytes as put into a memory file; a negative size takes them out again.

    What is put in was asked for just before, with `left`.
    """
    if ledger >= 0 and size:
        words = _mapped or _words()
        words[own_word] += size
        if size > 0 and _headroom < NEARLY_USED_UP:
            # After the count: the pool clears this word and then reads the counts, so at least one of the two sees the
            # other.
            words = _words()
            if words[LIMIT] <= sum(words[WORKERS:]):
                words[USED_UP] = 1


def _words() -> "memoryview[int]":
    """Return the words, from a mapping of the file, which is made anew when the pool has made that longer.

    Raises:
        OSError: There is no descriptor left for the mapping, which is made for the first large output.
    """
    global _mapped
    if _mapped is None or _mapped[COUNT] > len(_mapped):
        _mapped = memoryview(_map(ledger)).cast("q")
    return _mapped


def _map(fd: int) -> "mmap.mmap":
    try:
        import mmap  # not every worker needs it
    except ImportError as failure:
        if failure.path:  # the library that could not be loaded: if it cannot be opened, that is why
            os.close(os.open(failure.path, os.O_RDONLY))
        raise
    return mmap.mmap(fd, 0)
