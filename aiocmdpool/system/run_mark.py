"""Marks in the environment of commands that this process runs itself, by which their escapees are found."""

import itertools
import os
import secrets

from aiocmdpool.standalone.kernel import processes as procs

_numbers = itertools.count(1)
_cookie = secrets.token_hex(8).encode()


def new_mark() -> bytes:
    """Return a new mark for one run."""
    return procs.run_mark(_cookie, next(_numbers))


def _new_cookie() -> None:
    """Choose a new cookie in a forked child, whose runs are its own."""
    global _cookie
    _cookie = secrets.token_hex(8).encode()


os.register_at_fork(after_in_child=_new_cookie)
