"""A program as somebody would freeze it: it runs commands in every mode and prints what they print."""

import sys

import aiocmdpool

if "--without-freeze-support" not in sys.argv:
    aiocmdpool.freeze_support()

import asyncio

from aiocmdpool import CommandConfig, CommandPool, ExecuteError, ExecutionConfig, ExecutionMode, ResourceLimits, sync

COMMANDS = [
    CommandConfig("echo", ["plain"]),
    CommandConfig("sh", ["-c", "ulimit -n"], limits=ResourceLimits(open_files=50)),
    CommandConfig("sh", ["-c", "echo detached"], detach=True),
    CommandConfig("sh", ["-c", "env | grep -c AIOCMDPOOL_NESTED"]),
    CommandConfig("sh", ["-c", "env | grep -c AIOCMDPOOL_NESTED"], niceness=1),
]


async def main() -> None:
    for mode in (ExecutionMode.PROCESS, ExecutionMode.PROCESS_POOL):
        async with CommandPool(ExecutionConfig(mode=mode, concurrency_limit=2)) as pool:
            for command in COMMANDS:
                try:
                    print(mode.value, (await pool.execute(command)).text().strip())
                except ExecuteError as error:
                    print(mode.value, type(error).__name__, "freeze_support()" in str(error))
    print("single", (await aiocmdpool.run("echo", "single")).text().strip())


if __name__ == "__main__":
    asyncio.run(main())
    print("facade", sync.run("echo", "facade").text().strip())
