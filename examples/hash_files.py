"""Hash every regular file of a directory, several at a time, in the format of `sha256sum`.

    python examples/hash_files.py /usr/bin
    python examples/hash_files.py --program md5sum --at-once 8 ~/pictures > MD5SUMS

`CommandPool.map` takes the files one by one, keeps a bounded number of commands in flight, and gives the results in the
order of the files. A file that cannot be hashed is reported and does not stop the others; the exit status is then 1.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from aiocmdpool import CommandConfig, CommandPool, ExecuteError, ExecutionConfig


def commands(program: str, directory: Path) -> Iterator[CommandConfig]:
    """A command for each regular file, in the order of their names."""
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.is_symlink():
            # The file is the program's stdin, so that nobody parses or quotes its name, however odd it is.
            yield CommandConfig(program, stdin=path, check=True, label=str(path), metadata={"path": path})


def line(digest: str, path: Path) -> bytes:
    """As `sha256sum` writes it: a name with a line break or a backslash is escaped, and the line marked."""
    name = os.fsencode(path)
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n"


async def hash_files(program: str, directory: Path, at_once: int | None) -> int:
    """Print a line for each file; returns how many could not be hashed."""
    failed = 0
    async with CommandPool(ExecutionConfig(concurrency_limit=at_once)) as pool:
        async for outcome in pool.map(commands(program, directory), return_errors=True):
            if isinstance(outcome, ExecuteError):
                print(f"hash_files: {outcome}", file=sys.stderr)
                failed += 1
            else:
                digest, _, _ = outcome.text().partition(" ")
                sys.stdout.buffer.write(line(digest, outcome.command.metadata["path"]))
    sys.stdout.buffer.flush()
    return failed


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hash every regular file of a directory, several at a time.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--program", default="sha256sum", help="what hashes its stdin (default: %(default)s)")
    parser.add_argument("--at-once", type=int, metavar="N", help="files at a time (default: the number of CPUs)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    try:
        failed = asyncio.run(hash_files(arguments.program, arguments.directory, arguments.at_once))
    except BrokenPipeError:  # whoever read has had enough, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest has to go somewhere
        return 1
    except (ExecuteError, OSError) as error:  # --at-once 0, or no such directory
        print(f"hash_files: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
