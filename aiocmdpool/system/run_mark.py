"""Marks in the environment of what this process runs itself, by which escapees are found."""

import itertools
import os
import secrets

from aiocmdpool.standalone.kernel import processes as procs

_numbers = itertools.count(1)
_cookie = secrets.token_hex(8).encode()


def new_mark() -> bytes:
    """A mark for one run."""
    return procs.run_mark(_cookie, next(_numbers))


def _new_cookie() -> None:
    """The runs of a fork are its own."""
    global _cookie
    _cookie = secrets.token_hex(8).encode()


os.register_at_fork(after_in_child=_new_cookie)
