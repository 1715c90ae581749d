"""What is to be run: batches of runs, each batch in a host process of its own."""

import dataclasses
import json
import random
from collections.abc import Iterable, Iterator

from .backends import BACKENDS
from .behaviours import AT_ONCE, BEHAVIOURS
from .triggers import TRIGGERS


@dataclasses.dataclass(frozen=True)
class Run:
    """One program that is to be ended."""

    number: int
    behaviour: str


@dataclasses.dataclass(frozen=True)
class Batch:
    """Runs on one backend that one trigger ends, all of them in flight at once."""

    backend: str
    trigger: str
    loop: str
    grace: float  # seconds
    seed: int
    runs: tuple[Run, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Batch":
        fields = json.loads(text)
        return Batch(**{**fields, "runs": tuple(Run(**run) for run in fields["runs"])})


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which part of the whole is wanted."""

    behaviours: tuple[str, ...] = tuple(BEHAVIOURS)
    triggers: tuple[str, ...] = tuple(TRIGGERS)
    backends: tuple[str, ...] = tuple(BACKENDS)
    unpromised: bool = False

    def cells(self, backend: str) -> Iterator[tuple[str, str]]:
        """Each trigger with each behaviour that it concerns."""
        for trigger in self.triggers:
            for name in self.behaviours:
                promised = self.unpromised or BACKENDS[backend].promise(BEHAVIOURS[name], trigger)
                if TRIGGERS[trigger].concerns(trigger, BEHAVIOURS[name]) and promised:
                    yield trigger, name


def make_batches(
    selection: Selection, runs: int, size: int, grace: float, seed: int, loops: Iterable[str] = ("asyncio", "uvloop")
) -> list[Batch]:
    """Spread `runs` for each backend evenly over its cells, shuffled; each batch mixes behaviours of one family."""
    chance, factories = random.Random(seed), list(loops)
    batches: list[Batch] = []
    number = 0
    for backend in selection.backends:
        for trigger, behaviours in _columns(selection, backend, runs).items():
            for part in _parts(behaviours, size, chance):
                numbered = tuple(Run(number + index, name) for index, name in enumerate(part))
                number += len(part)
                loop = factories[len(batches) % len(factories)]
                batches.append(Batch(backend, trigger, loop, grace, chance.getrandbits(32), numbered))
    chance.shuffle(batches)
    return batches


def _parts(behaviours: list[str], size: int, chance: random.Random) -> Iterator[list[str]]:
    """Deal out behaviours to hosts, each family to its own."""
    chance.shuffle(behaviours)
    for family in dict.fromkeys(BEHAVIOURS[name].family for name in behaviours):
        members = [name for name in behaviours if BEHAVIOURS[name].family == family]
        at_once = AT_ONCE.get(family, size)
        for start in range(0, len(members), at_once):
            yield members[start : start + at_once]


def _columns(selection: Selection, backend: str, runs: int) -> dict[str, list[str]]:
    """The behaviours for each trigger, as often as they are to be run."""
    cells = list(selection.cells(backend))
    columns: dict[str, list[str]] = {}
    for index, (trigger, name) in enumerate(cells):
        share = runs // len(cells) + (index < runs % len(cells))
        columns.setdefault(trigger, []).extend([name] * share)
    return {trigger: names for trigger, names in columns.items() if names}
