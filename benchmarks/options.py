"""The command line of the benchmarks, and how long each kind of run takes its time."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Self

from benchmarks.contenders import CONTENDERS, FLOOR

HERE = pathlib.Path(__file__).parent
GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    quick: bool
    rounds: int
    """Of the main comparison."""
    only: frozenset[str]
    """Names of contenders; the floor is always among them."""
    heap: int
    """Resident bytes for the comparison with a large heap; 0 to leave it out."""
    output: pathlib.Path | None
    """Where results go; `None`: nowhere, because the run is not the whole of it."""
    seed: int

    @property
    def grid_rounds(self) -> int:
        """Rounds of the grid: all workloads at all numbers in flight. It is for the picture, not for the goals."""
        return 0 if self.quick else max(1, self.rounds // 5)

    @property
    def seconds(self) -> float:
        """How long commands are counted in one measurement of the main comparison."""
        return 0.5 if self.quick else 0.9

    @property
    def lag_seconds(self) -> float:
        """How long the heartbeat beats in one measurement of the main comparison."""
        return 0.3 if self.quick else 0.6

    @property
    def picture(self) -> pathlib.Path | None:
        """Where the picture goes: the one in the README stands beside this package's modules."""
        return None if self.output is None else self.output / "comparison.svg"

    @property
    def results(self) -> pathlib.Path | None:
        """Where the figures go."""
        if self.output == HERE:
            return HERE / "results" / "latest.json"
        return None if self.output is None else self.output / "latest.json"

    def without_heap(self) -> Self:
        """The same, on a machine with too little memory."""
        return dataclasses.replace(self, heap=0)

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Self:
        """Read a command line; those of this process by default. Ends the process if it is wrong."""
        parser = argparse.ArgumentParser(
            prog="python -m benchmarks",
            description="Measure aiocmdpool beside a C program, asyncio, uvloop, anyio, threads, xargs and parallel.",
        )
        parser.add_argument("--quick", action="store_true", help="a look in under a minute; no grid, nothing saved")
        parser.add_argument("--rounds", type=int, help="of the main comparison (default: 7; 2 with --quick)")
        parser.add_argument("--only", metavar="NAMES", help=f"some of: {', '.join(CONTENDERS)}; nothing is saved")
        parser.add_argument("--no-heap", action="store_true", help="leave out the comparison with 2 GB resident")
        parser.add_argument("--output", metavar="DIR", type=pathlib.Path, help="save there, whatever the run")
        parser.add_argument("--seed", type=int, default=1, help="of the order within the rounds (default: 1)")
        given = parser.parse_args(arguments)
        rounds = given.rounds or (2 if given.quick else 7)
        if rounds < 1:
            parser.error("--rounds: at least 1")
        only = frozenset(given.only.split(",")) | {FLOOR} if given.only else frozenset(CONTENDERS)
        if unknown := only - set(CONTENDERS):
            parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are: {', '.join(CONTENDERS)}")
        whole = not given.quick and not given.only
        return cls(
            quick=given.quick,
            rounds=rounds,
            only=only,
            heap=0 if given.no_heap or given.quick else 2 * GIB,
            output=given.output or (HERE if whole else None),
            seed=given.seed,
        )
