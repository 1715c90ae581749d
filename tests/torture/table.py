"""The table: behaviour, trigger and backend with runs, survivors and the time to death."""

import dataclasses
import statistics
from collections.abc import Iterable

from .arena import Fight
from .triggers import TRIGGERS


@dataclasses.dataclass
class Row:
    """One cell of the whole, summed up."""

    runs: int = 0
    ready: int = 0
    survivors: int = 0
    outlived: int = 0
    late: int = 0
    lost: int = 0
    neighbours: int = 0
    deaths: list[float] = dataclasses.field(default_factory=list)


HEAD = (
    "behaviour",
    "trigger",
    "backend",
    "runs",
    "ready",
    "survivors",
    "outlived",
    "median s",
    "max s",
    "late",
    "beside",
    "lost",
)
NOTES = """\
runs: programs ended, or ended by themselves; ready: those that had come so far before that
survivors: runs of which a process lived seconds later; they have been killed by this suite
outlived: runs of which a process was seen after the caller had its answer: an orphan that has wiped or forged what
would say whose it is dies with the last of the commands, or the one, that it can be of
median, max: from the trigger to the death of the last process, grace included; late: later than {limit:.3f} s, or
1 s for host and workers killed at once; families that have a host of their own are not counted there
beside: healthy commands of the same hosts; lost: those that have not come to their own end, of triggers that end single
runs; a behaviour that stops or traces its own worker (stop_parent, trace_parent) may take them with it (WorkerLost)"""


def sum_up(fights: Iterable[Fight], limit: float) -> dict[tuple[str, str, str], Row]:
    """Rows by behaviour, trigger and backend."""
    rows: dict[tuple[str, str, str], Row] = {}
    for fight in fights:
        trigger = TRIGGERS[fight.batch.trigger]
        for index, fate in enumerate(fight.fates.values()):
            row = rows.setdefault((fate.behaviour, fight.batch.trigger, fight.batch.backend), Row())
            row.runs += 1
            row.ready += fate.ready
            row.outlived += fate.outlived
            if index == 0:  # they belong to the host, not to one behaviour
                row.neighbours += fight.neighbours
                row.lost += len(fight.lost_neighbours())
            if fate.survivors:
                row.survivors += 1
            elif fate.triggered:
                row.deaths.append(fate.death)
                row.late += not fate.allows.family and fate.death > (trigger.limit or limit)
    return rows


def table_text(rows: dict[tuple[str, str, str], Row], limit: float) -> str:
    """All rows, sums for each backend, and what the columns mean."""
    lines = [[*key, *_cells(row)] for key, row in sorted(rows.items(), key=lambda item: item[0][::-1])]
    for backend in sorted({key[2] for key in rows}):
        total = Row()
        for row in (row for key, row in rows.items() if key[2] == backend):
            for field in ("runs", "ready", "survivors", "outlived", "late", "lost", "neighbours"):
                setattr(total, field, getattr(total, field) + getattr(row, field))
            total.deaths += row.deaths
        lines.append(["all", "all", backend, *_cells(total)])
    return "\n".join([*_aligned([list(HEAD), *lines]), "", NOTES.format(limit=limit)])


def _cells(row: Row) -> list[str]:
    median, largest = (statistics.median(row.deaths), max(row.deaths)) if row.deaths else (0.0, 0.0)
    counts = [row.runs, row.ready, row.survivors, row.outlived]
    return [*map(str, counts), f"{median:.3f}", f"{largest:.3f}", str(row.late), str(row.neighbours), str(row.lost)]


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < 3 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
