"""The command line: `aiocmdpool run [options] PROGRAM [ARG...] [::: INPUT...]`.

It uses a pool: it reads inputs lazily, makes a command of each, and handles their output, their failures and Ctrl-C in
an orderly way. It starts no process itself.
"""

from aiocmdpool.cli.entry import main

__all__ = ["main"]
