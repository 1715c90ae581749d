"""Starts the hosts of batches, hears what they tell, looks at what lives, and notes how each run ended."""

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

import aiocmdpool

from .behaviours import BEHAVIOURS, Behaviour
from .conditions import DEFAULT, Conditions
from .plan import Batch
from .scenery import MOUNT, SILENCE, UNKILLABLE_SECONDS
from .survivors import Marks, bearers, describe, kill_bearers
from .triggers import TRIGGERS

LOOK_EVERY = 0.02  # seconds between looks at /proc
PATIENCE = 4.0  # seconds after trigger, grace and host's death; what lives then is a survivor
HOST_DEADLINE = 60.0  # seconds, for a whole batch
SHOWN = 4  # processes of one run
TESTS = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class Fate:
    """What became of one run."""

    behaviour: str
    ready: bool = False
    triggered: float = 0.0
    settled: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    outlived: bool = False
    """Whether something of it was seen after its caller had been told that it is over."""
    gone: float = 0.0
    """When a look found nothing of it, and the next one neither."""
    survivors: list[str] = dataclasses.field(default_factory=list)
    message: str = ""
    """Of the error that its caller was given."""
    absences: int = 0

    @property
    def allows(self) -> Behaviour:
        """What its behaviour excuses."""
        return BEHAVIOURS[self.behaviour]

    def may_live(self, pid: int) -> bool:
        """Whether its caller has been told that this process lives on, as it may be where nobody can end it."""
        return self.allows.unkillable and str(pid) in re.findall(r"\d+", self.message)

    @property
    def death(self) -> float:
        """Seconds from the trigger to the death of the last process."""
        if not self.settled or self.outlived:
            return max(0.0, self.gone - self.triggered)
        return max(0.0, min(self.gone, self.settled[0][0]) - self.triggered)

    def wrong(self, expected: frozenset[str]) -> str:
        """What is wrong with what its caller was told; empty if nothing is."""
        outcomes = [outcome for _, outcome in self.settled]
        if not expected:
            return f"settled by a host that is dead: {outcomes}" if outcomes else ""
        fine = len(outcomes) == 1 and not expected.isdisjoint({outcomes[0], outcomes[0].split()[0]})
        waited = self.settled[0][0] - self.triggered if self.settled else 0.0
        if fine and self.allows.unkillable and waited > UNKILLABLE_SECONDS / 2:
            return f"settled after {waited:.1f} s: somebody waited for what nobody can end"
        # Which entry of PATH it was, nobody can tell; and a link is named as it was given.
        word = {"path": "PATH", "link": "/link"}.get(self.allows.on_the_mount, os.environ.get(MOUNT, ""))
        names_a_path = not self.allows.on_the_mount or word in self.message
        if fine and outcomes[0].startswith(("IoError", "CommandTimeout", "ChildError")) and not names_a_path:
            return f"does not name the path: {self.message}"
        return "" if fine else f"settled as {outcomes}, not as one of {sorted(expected)}: {self.message[:300]}"


@dataclasses.dataclass
class Fight:
    """A batch and how it went."""

    batch: Batch
    fates: dict[int, Fate]
    host: str = ""
    """What was wrong with the host itself."""
    left: list[str] = dataclasses.field(default_factory=list)
    """What lived on of the host, its workers and its neighbours."""
    neighbours: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    """What became of neighbours that have not come to their own end."""

    def complaints(self) -> list[str]:
        """All that should not be, survivors apart, for people."""
        trigger, found = TRIGGERS[self.batch.trigger], list[str]()
        for fate in self.fates.values():
            if wrong := fate.wrong(trigger.expects(fate.allows)):
                found.append(f"{fate.behaviour}: {wrong}")
            excused = fate.allows.unkillable or fate.allows.anonymous or fate.allows.forges
            if fate.outlived and trigger.outcomes and not fate.survivors and not excused:
                found.append(f"{fate.behaviour}: something of it lived when its caller was told that it is over")
        return [*found, *([self.host] if self.host else []), *_a_few(self.left), *self.lost_neighbours()]

    def lost_neighbours(self) -> list[str]:
        """What became of those that the trigger spares and whose worker nobody ended."""
        spared = TRIGGERS[self.batch.trigger].spares
        excused = any(fate.allows.ends_parent for fate in self.fates.values())
        return [f"lost: {text}" for text in self.lost if spared and not (excused and "WorkerLost" in text)]

    @property
    def patience(self) -> float:
        """Seconds after the grace in which everything has to be gone."""
        mute = any(fate.allows.on_the_mount for fate in self.fates.values())
        return PATIENCE + (SILENCE if mute else 0)

    def survivors(self) -> list[str]:
        """All that lived on, for people."""
        return [f"{fate.behaviour}: {text}" for fate in self.fates.values() for text in _a_few(fate.survivors)]


class Arena:
    """Runs batches, several at once, and looks at /proc all the time for their marks.

    Args:
        marks: Those of this session.
        hosts: How many batches at once.
        conditions: Those of the hosts.
    """

    def __init__(self, marks: Marks, hosts: int, conditions: Conditions = DEFAULT) -> None:
        self._marks, self._conditions = marks, conditions
        self._permits = asyncio.Semaphore(hosts)
        self._watched: dict[int, Fate] = {}
        self._looked = asyncio.Condition()

    async def fight(self, batches: Iterable[Batch]) -> list[Fight]:
        """Run them all."""
        looking = asyncio.create_task(self._look())
        try:
            return await asyncio.gather(*map(self._one, batches))
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            self._marks.kill()

    async def _one(self, batch: Batch) -> Fight:
        fight = Fight(batch, {run.number: Fate(run.behaviour) for run in batch.runs})
        async with self._permits:
            with tempfile.TemporaryDirectory() as folder:
                words = f"{batch.to_json()}\n{self._marks.token}\n"
                process = await start_module("torture.host", folder, words, self._conditions)
                self._watched.update(fight.fates)
                try:
                    async with asyncio.timeout(HOST_DEADLINE):
                        await self._hear(process, fight)
                except TimeoutError:
                    fight.host = f"the host did not end within {HOST_DEADLINE:g} s"
                finally:
                    errors = await end_host(process)
                    await self._all_gone(fight, folder)
                    for number in fight.fates:
                        del self._watched[number]
                fight.host = fight.host or self._judge(batch, process.returncode, errors, os.listdir(folder))
        return fight

    async def _hear(self, process: asyncio.subprocess.Process, fight: Fight) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            what, _, text = line.decode().partition(" ")
            if what == "lost":
                fight.lost.append(text.strip())
                continue
            number, *rest = text.split(maxsplit=2)
            if what == "neighbours":
                fight.neighbours = int(number)
                continue
            fate = fight.fates[int(number)]
            if what == "ready":
                fate.ready = True
            elif what == "triggered":
                fate.triggered = float(rest[0])
            else:
                outcome, _, fate.message = rest[1].strip().partition("\t")
                fate.settled.append((float(rest[0]), outcome))
        await process.wait()

    def _judge(self, batch: Batch, code: int | None, errors: bytes, files: list[str]) -> str:
        killed = -signal.SIGKILL
        wanted = {"host_kill": killed, "host_and_workers_kill": killed, "host_exception": 1}.get(batch.trigger, 0)
        if code != wanted:
            return f"the host ended with {code} instead of {wanted}: {errors.decode(errors='replace')[-2000:]}"
        left = sorted(set(files) - {"ready", "go"})
        return f"the host left files: {left}" if left else ""

    # -- looks ----------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            began = monotonic()
            alive = self._marks.alive() if self._watched else {}
            for number, fate in self._watched.items():
                _note(fate, number in alive, began)
            async with self._looked:
                self._looked.notify_all()
            await asyncio.sleep(LOOK_EVERY)

    async def _all_gone(self, fight: Fight, folder: str) -> None:
        """Wait until nothing of a batch is left, or for so long that the rest are survivors."""
        patience = fight.batch.grace + fight.patience
        deadline = monotonic() + patience
        mine = fight.fates.values()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + patience):
                while monotonic() < deadline:
                    if all(fate.absences > 1 for fate in mine) and not bearers(folder):
                        break
                    async with self._looked:
                        await self._looked.wait()
        for number, pids in self._marks.alive(environments=True).items():
            if number in fight.fates:
                fate = fight.fates[number]
                fate.survivors = [describe(pid) for pid in pids if not fate.may_live(pid)]
                self._marks.kill([number])  # others are to fight under the conditions they would have had
        fight.left = [f"lived on without a mark: {describe(pid)}" for pid in bearers(folder)]
        kill_bearers(folder)


def _a_few(texts: list[str]) -> list[str]:
    return texts[:SHOWN] + [f"and {len(texts) - SHOWN} more"] * (len(texts) > SHOWN)


def _note(fate: Fate, alive: bool, looked_at: float) -> None:
    if not fate.triggered or looked_at < fate.triggered:
        return
    if alive:
        fate.absences = 0
        fate.outlived = fate.outlived or bool(fate.settled and looked_at > fate.settled[0][0])
    else:
        fate.absences += 1
        if fate.absences == 1:
            fate.gone = looked_at


async def start_module(
    module: str, folder: str, words: str, conditions: Conditions = DEFAULT
) -> asyncio.subprocess.Process:
    """Start a module of this suite as a program of its own, in its own session, with a folder for temporary files."""
    conditions.give(folder)
    path = [str(Path(aiocmdpool.__path__[0]).parent), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *conditions.argv(module), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(words.encode())
    process.stdin.close()
    return process


async def end_host(process: asyncio.subprocess.Process) -> bytes:
    """See that a host is dead; returns what it has said on stderr, as far as it is there."""
    if process.returncode is None:
        process.kill()
    await process.wait()
    assert process.stderr is not None
    with contextlib.suppress(TimeoutError):  # somebody else may hold the pipe
        async with asyncio.timeout(1):
            return await process.stderr.read(65536)
    return b""
