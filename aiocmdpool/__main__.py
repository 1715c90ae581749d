"""Entry point of `python -m aiocmdpool`: runs the command line."""

import sys

from aiocmdpool.cli import main

if __name__ == "__main__":
    sys.exit(main())
