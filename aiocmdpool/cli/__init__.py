"""The command line: `aiocmdpool run [options] PROGRAM [ARG...] [::: INPUT...]`.

A room on top of the pool: it reads inputs lazily, makes a command of each, and brings their output, their failures
and the reader's Ctrl-C to an orderly end. It starts no process itself.
"""

from aiocmdpool.cli.entry import main

__all__ = ["main"]
