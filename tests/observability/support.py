"""A hook that remembers, and commands that say when they run."""

import asyncio
from collections import defaultdict
from typing import Any

from contract.support import sh

from aiocmdpool import CommandConfig, TaskHandle
from aiocmdpool.observability.events import TaskEvent, TaskFinished

PATIENCE = 20.0  # seconds after which something that should have happened is taken for broken


class Recorder:
    """A hook that keeps every event."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []

    def __call__(self, event: TaskEvent) -> None:
        self.events.append(event)

    def kinds(self, handle: TaskHandle) -> list[str]:
        """The names of the events of one task, in order."""
        return [type(event).__name__ for event in self.events if event.task_id == handle.id]

    def all_kinds(self) -> dict[int, list[str]]:
        kinds = defaultdict(list)
        for event in self.events:
            kinds[event.task_id].append(type(event).__name__)
        return dict(kinds)

    def finished(self, handle: TaskHandle) -> TaskFinished:
        """How one task ended; there is exactly one such event."""
        [event] = [e for e in self.events if e.task_id == handle.id and isinstance(e, TaskFinished)]
        return event


def hold(ready: Any, release: Any, **options: Any) -> CommandConfig:
    """Says its pid to `ready`, and waits for a line from `release`."""
    return sh('echo $$ >"$1"; read x <"$2"', ready.path, release.path, **options)


async def settled(*handles: TaskHandle) -> None:
    """Wait until these are settled, whatever their outcome."""
    async with asyncio.timeout(PATIENCE):
        for handle in handles:
            await handle.wait_settled()
