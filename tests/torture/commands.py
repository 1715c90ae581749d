"""Harmless and faulty commands for schedules and long runs, each with what it must give when it comes to its end."""

import dataclasses
import os
import random
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from aiocmdpool.commands.command import CommandConfig, ResourceLimits
from aiocmdpool.commands.errors import CommandTimeout, ExecuteError, IoError, NonZeroExit
from aiocmdpool.commands.result import CommandResult

from .behaviours import BEHAVIOURS, MARK_NAME, STAY


@dataclasses.dataclass(frozen=True)
class Sample:
    """A command, and the check of what it gave: empty, or a complaint."""

    kind: str
    command: CommandConfig
    check: Callable[[CommandResult | ExecuteError], str]

    def with_timeout(self, seconds: float) -> "Sample":
        """Return the same with a deadline."""
        return dataclasses.replace(self, command=self.command.with_timeout(seconds))


def checksummed(chance: random.Random, largest: int = 2000) -> Sample:
    """Says one thing on stdout and another on stderr, of which every byte must arrive."""
    words = [chance.randbytes(chance.randrange(largest // 2)).hex() for _ in range(2)]
    command = CommandConfig("/bin/sh", ["-c", 'printf %s "$0"; printf %s "$1" >&2', *words])
    return Sample("checksummed", command, lambda outcome: _same_bytes(outcome, *(w.encode() for w in words)))


def fed(chance: random.Random) -> Sample:
    """Gives back what it is fed; more than a pipe holds, now and then."""
    data = chance.randbytes(chance.choice([0, 1, 4096, 65537, 300_000]))
    return Sample("fed", CommandConfig("cat", stdin=data), lambda outcome: _same_bytes(outcome, data, b""))


def prepared(chance: random.Random) -> Sample:
    """Says what it is told, under settings that take more than a plain start (setrlimit(2), setpriority(2), …)."""
    word = chance.randbytes(20).hex()
    settings: dict[str, Any] = {
        "limits": ResourceLimits(cpu_seconds=20, open_files=chance.randint(32, 256), file_size=0),
        "niceness": chance.randint(1, 10),
        "umask": chance.choice([0o22, 0o27, 0o77]),
        "no_new_privs": sys.platform == "linux",
        **({"user": "nobody"} if os.geteuid() == 0 else {}),
    }
    chosen = {name: settings[name] for name in chance.sample(list(settings), chance.randint(1, len(settings)))}
    command = CommandConfig("/bin/echo", [word], cwd="/", **chosen)
    return Sample(
        f"prepared by {sorted(chosen)}", command, lambda outcome: _same_bytes(outcome, f"{word}\n".encode(), b"")
    )


def _same_bytes(outcome: CommandResult | ExecuteError, stdout: bytes, stderr: bytes) -> str:
    if not isinstance(outcome, CommandResult):
        return f"{type(outcome).__name__} instead of a result: {outcome}"
    for name, got, wanted in (("stdout", outcome.stdout, stdout), ("stderr", outcome.stderr, stderr)):
        if got is None or zlib.crc32(got) != zlib.crc32(wanted) or len(got) != len(wanted):
            return f"{name} has {len(got or b'')} bytes of {len(wanted)}, or not the same ones"
    return "" if outcome.returncode == 0 else f"status {outcome.returncode}"


def _fails(kind: str, command: CommandConfig, error: type[ExecuteError]) -> Callable[[random.Random], Sample]:
    def check(outcome: CommandResult | ExecuteError) -> str:
        return "" if isinstance(outcome, error) else f"{type(outcome).__name__} instead of {error.__name__}: {outcome}"

    return lambda _: Sample(kind, command, check)


def _true(_: random.Random) -> Sample:
    return Sample("true", CommandConfig("/bin/true"), lambda outcome: _same_bytes(outcome, b"", b""))


KINDS: Mapping[str, tuple[int, Callable[[random.Random], Sample]]] = {  # weight, maker
    "true": (4, _true),
    "checksummed": (4, checksummed),
    "fed": (2, fed),
    "non_zero": (1, _fails("non_zero", CommandConfig.shell("exit 7", check=True), NonZeroExit)),
    "missing": (1, _fails("missing", CommandConfig("/nowhere/at/all"), IoError)),
    "unexecutable": (1, _fails("unexecutable", CommandConfig("/etc/passwd"), IoError)),
    "no_directory": (1, _fails("no_directory", CommandConfig("true", cwd="/nowhere"), IoError)),
}


def harmless(chance: random.Random) -> Sample:
    """One of `KINDS`, by weight."""
    weights = [weight for weight, _ in KINDS.values()]
    [kind] = chance.choices(list(KINDS), weights)
    return KINDS[kind][1](chance)


def hostile(chance: random.Random, ready: str, mark: str, *, anonymous: bool = True, **options: Any) -> Sample:
    """A program of any behaviour that has to be ended, and is ended by its timeout if by nothing else."""
    names = [
        name
        for name, behaviour in BEHAVIOURS.items()
        if STAY in behaviour.endings
        and behaviour.available
        and not behaviour.family
        and (anonymous or not behaviour.anonymous)
    ]
    name = chance.choice(names)
    program, *args = BEHAVIOURS[name].argv(ready, mark, STAY)
    options = {"timeout": chance.uniform(0.02, 0.4), "grace": 0.1, "max_output": 300_000, **options}
    command = CommandConfig(program, args, env={MARK_NAME: mark}, **options)

    def check(outcome: CommandResult | ExecuteError) -> str:
        if isinstance(outcome, CommandTimeout) or type(outcome).__name__ == "OutputLimitExceeded":
            return ""
        return f"{name}: {type(outcome).__name__} instead of an end by a limit: {outcome}"

    return Sample(name, command, check)
