"""What the scenarios share."""

import sys

from contract.support import helper

from aiocmdpool import CommandConfig, ExecutionConfig, ExecutionMode, sync

KEPT: list[object] = []  # what nobody else refers to


def pool_of(mode):
    return sync.CommandPool(ExecutionConfig(mode=ExecutionMode[mode], concurrency_limit=4))


def stubborn(ready):
    """A command that says its pid, ends at KILL only, and must be gone soon after."""
    return helper("ignore_sigterm", ready, grace=0.05)


def say(*words):
    print(*words, flush=True)


def wait_for_test():
    """Until the test says so."""
    sys.stdin.readline()


def waits(ready, release):
    """A command that says its pid, and ends when it hears a line."""
    return CommandConfig("sh", ["-c", 'echo $$ > "$1"; read line < "$2"; echo "$line"', "sh", ready, release])
