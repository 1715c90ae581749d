"""The core of a chat bot that runs commands for people it does not trust. Messages come on stdin, answers go to stdout.

    pip install 'aiocmdpool[examples]'
    printf '%s\n' 'ann: !factor 1234567' 'bob: !sleep 30' 'bob: !stop' | python examples/chat_bot.py

A message is `user: !command arguments`; `!help` lists the commands, `!stop` ends those of its user. Each command has
limits of the kernel (CPU, memory, no files, no new privileges), a deadline and a bound on its output; each user has a
number of commands at once and a rate. At the end of the input the bot waits a little for what still runs, and leaves.

What this does not do: hide the file system or the network. Allow only programs that do no harm with any arguments.
"""

import argparse
import asyncio
import contextlib
import os
import re
import stat
import sys
from collections.abc import AsyncIterator

from aiocmdpool import (
    CommandConfig,
    CommandExecutor,
    CommandPool,
    CommandTimeout,
    ExecuteError,
    ExecutionConfig,
    OutputLimitExceeded,
    ResourceLimits,
    Stdio,
)
from aiocmdpool.policies import KeyLimit, RateLimit

ALLOWED = ("date", "echo", "factor", "seq", "sleep")
MESSAGE = re.compile(r"\s*(?P<user>[\w.-]{1,40}):\s*!(?P<command>\w+)\s*(?P<rest>.*)", re.ASCII)
ARGUMENT = re.compile(r"[\w.:,=][\w.:,=+-]{0,99}", re.ASCII)  # no "-" in front: options do more than one thinks
AT_ONCE = 2  # commands of one user
WAITING = 6  # commands of one user that run or wait; more are refused
RATE, BURST = 2.0, 5  # starts per second of one user, and at once after a silence
ANSWER = 300  # bytes


class User:
    """What the bot knows of one user: a rate of their own, and the tasks that are theirs."""

    def __init__(self, executor: CommandExecutor) -> None:
        self.executor = RateLimit(executor, RATE, burst=BURST)
        self.tasks: set[asyncio.Task[None]] = set()


class Bot:
    """Takes messages, and says the answers when it has them, in whatever order they come."""

    def __init__(self, pool: CommandPool, cpu_seconds: int, timeout: float) -> None:
        # Around the pool, not in it: who waits for a turn of their own takes no place in the queue from others.
        self._executor = KeyLimit(pool, AT_ONCE, key=lambda command: command.metadata["user"])
        self._users: dict[str, User] = {}  # kept for good, about a kilobyte each: who is forgotten has a fresh rate
        limits = ResourceLimits(cpu_seconds=cpu_seconds, address_space=256 * 1024 * 1024, open_files=32, file_size=0)
        self._template = CommandConfig(
            ALLOWED[0],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            inherit_env=False,  # the bot's own holds its secrets
            stderr=Stdio.MERGED,
            timeout=timeout,
            max_output=ANSWER,  # past it the command is ended: nobody reads what it would still write
            limits=limits,
            no_new_privs=True,
            niceness=10,
        )

    def hear(self, message: str) -> None:
        """Act on one message. Never waits."""
        match = MESSAGE.fullmatch(message)
        if match is None:
            return  # people talk to each other, too
        name, command, args = match["user"], match["command"], match["rest"].split()
        user = self._users.get(name)
        if command == "help":
            self.say(name, f"commands: {', '.join(ALLOWED)}, stop")
        elif command == "stop":
            for task in user.tasks if user else ():
                task.cancel()
        elif command not in ALLOWED:
            self.say(name, f"{command}: no such command; !help lists them")
        elif not all(map(ARGUMENT.fullmatch, args)):
            self.say(name, f"{command}: words of letters, digits and .:,=+- only, and no options")
        elif user is not None and len(user.tasks) >= WAITING:
            self.say(name, f"{command}: {WAITING} of yours are running or waiting; !stop ends them")
        else:
            self._begin(name, self._template.with_options(program=command, args=args, metadata={"user": name}))

    def _begin(self, name: str, command: CommandConfig) -> None:
        user = self._users.get(name) or self._users.setdefault(name, User(self._executor))
        task = asyncio.create_task(self._run(name, user.executor, command))
        user.tasks.add(task)
        task.add_done_callback(user.tasks.discard)
        task.add_done_callback(lambda done: self._stopped(name, command) if done.cancelled() else None)

    async def _run(self, name: str, executor: CommandExecutor, command: CommandConfig) -> None:
        title = command.display()
        try:
            result = await executor.execute(command)
        except OutputLimitExceeded as error:
            head = error.result.stdout if error.result else b""
            self.say(name, f"{title}: {one_line(head)} … (cut)")
        except CommandTimeout:
            self.say(name, f"{title}: took longer than {command.timeout:g} s")
        except ExecuteError as error:
            self.say(name, f"{title}: {error}")
        else:
            self.say(name, f"{title}: {one_line(result.stdout)}" + ("" if result.ok else f" ({result.status_text()})"))

    def _stopped(self, name: str, command: CommandConfig) -> None:
        """By `!stop`, or at the end. The command is dead, or was never begun."""
        self.say(name, f"{command.display()}: stopped")

    async def finish(self, patience: float) -> None:
        """Wait for what runs, and stop what takes longer."""
        tasks = [task for user in self._users.values() for task in user.tasks]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def say(self, name: str, text: str) -> None:
        print(f"@{name} {text}", flush=True)


def one_line(output: bytes | None) -> str:
    """Output on one line; and nothing in it that a terminal or a chat would take for a command."""
    text = " ⏎ ".join((output or b"").decode(errors="replace").splitlines())
    return "".join(char if char.isprintable() else "�" for char in text)


async def lines_of_stdin() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    if stat.S_ISREG(os.fstat(0).st_mode):  # a loop cannot wait for a file, and need not
        reader.feed_data(sys.stdin.buffer.read())
        reader.feed_eof()
    else:
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while True:
        with contextlib.suppress(ValueError):  # a line of more than 64 KiB, which is dropped
            line = await reader.readline()
            if not line:
                return
            yield line.decode(errors="replace").rstrip("\n")


async def main() -> None:
    parser = argparse.ArgumentParser(description="Run commands for the users of a chat.")
    parser.add_argument("--cpu", type=int, default=2, metavar="SECONDS", help="of CPU for a command")
    parser.add_argument("--timeout", type=float, default=20, metavar="SECONDS", help="for a command")
    parser.add_argument("--patience", type=float, default=5, metavar="SECONDS", help="for what runs at the end")
    options = parser.parse_args()
    async with CommandPool(ExecutionConfig(concurrency_limit=8), max_size=100) as pool:
        bot = Bot(pool, options.cpu, options.timeout)
        async for message in lines_of_stdin():
            bot.hear(message)
        await bot.finish(options.patience)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
