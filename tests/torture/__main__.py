"""`python -m tests.torture`, from the root of the repository: see `--help`."""

import argparse
import asyncio
import functools
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

if __package__ == "tests.torture":  # hosts know this package as `torture`, as the tests do
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from torture.__main__ import main as _main

    sys.exit(_main())

from aiocmdpool.system.cpus import cpu_count

from . import run_bytes, settings, soak
from .arena import Arena, Fight, end_host, start_module
from .backends import BACKENDS
from .behaviours import BEHAVIOURS
from .conditions import Conditions
from .host import LOOPS
from .plan import Batch, Selection, make_batches
from .scenery import scenery
from .schedule_host import Terms
from .schedules import make_terms, run_schedules
from .survivors import Marks
from .table import sum_up, table_text
from .triggers import TRIGGERS

SHOWN = 100  # complaints
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")  # sched(7)
GRACE = 0.3  # seconds between TERM and KILL


def main() -> int:
    """Run what was asked for; the exit status says whether all is well."""
    options = _options()
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, autogroup {_autogroup()}"
    print(f"seed {options.seed}, {machine}", flush=True)
    result: int = options.run(options)
    return result


def _autogroup() -> str:
    """Whether the kernel groups tasks by session: a chain of sessions keeps everybody waiting there, up to 0.5 s."""
    try:
        return {"0": "off", "1": "on"}[AUTOGROUP.read_text().strip()]
    except OSError:
        return "not there"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="The torture suite, in full.")
    parts = parser.add_subparsers(required=True, metavar="PART")
    table = _part(parts, "table", _table, "hostile programs, ended in every way: the table")
    table.add_argument("--behaviour", action="append", choices=BEHAVIOURS, help="only this one; may be repeated")
    table.add_argument("--trigger", action="append", choices=TRIGGERS, help="only this one; may be repeated")
    table.add_argument("--unpromised", action="store_true", help="also what the backend does not promise")
    table.add_argument("--runs", type=int, default=10_000, help="for each backend")
    table.add_argument("--batch", type=int, default=6, help="runs in flight in one host")
    table.add_argument("--hosts", type=int, default=cpu_count(), help="hosts at once; many starve each other")
    table.add_argument("--user", default="", help="name or uid of an ordinary user whom the hosts run as (takes root)")
    table.add_argument("--no-cgroup", action="store_true", help="hide the control groups from the hosts (takes root)")
    table.add_argument("--python", default=sys.executable, help="interpreter of the hosts, within the user's reach")
    table.add_argument("--tolerance", type=float, default=0.25, help="seconds past the grace that a death may take")
    schedules = _part(parts, "schedules", _schedules, "random schedules with faults")
    schedules.add_argument("--count", type=int, default=200, help="for each backend")
    schedules.add_argument("--hosts", type=int, default=4, help="hosts at once")
    schedules.add_argument("--replay", type=int, metavar="SEED", help="only this one, with these:")
    schedules.add_argument("--loop", choices=LOOPS, default="asyncio")
    schedules.add_argument("--starved", action="store_true")
    for name, main_of, commands, text in (
        ("bytes", run_bytes.main, 100_000, "fast exits, of whose output not a byte may be lost"),
        ("settings", settings.main, 20_000, "commands with limits, niceness, umask, user: none may be lost"),
        ("soak", soak.main, 200_000, "a long run that ends with flat memory and descriptors"),
    ):
        part = _part(parts, name, functools.partial(_each_backend, main_of), text)
        part.add_argument("--commands", type=int, default=commands, help="for each backend")
    # Without the name of a part it is the table.
    words = sys.argv[1:]
    named = words and (words[0] in parts.choices or words[0] in ("-h", "--help"))
    return parser.parse_args(words if named else ["table", *words])


def _part(parts: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(name, help=text, description=text)
    part.add_argument("--seed", type=int, default=random.randrange(10**6))
    part.add_argument("--backend", action="append", choices=BACKENDS, help="only this one; may be repeated")
    part.set_defaults(run=run)
    return part


def _table(options: argparse.Namespace) -> int:
    conditions = Conditions(options.user, not options.no_cgroup, options.python)
    with scenery(unprivileged=conditions.uid != 0):
        return _table_in(conditions, options)


def _table_in(conditions: Conditions, options: argparse.Namespace) -> int:
    selection = Selection(
        tuple(options.behaviour or BEHAVIOURS),
        tuple(options.trigger or TRIGGERS),
        tuple(options.backend or BACKENDS),
        options.unpromised,
    )
    batches = make_batches(selection, options.runs, options.batch, GRACE, options.seed)
    fights, starved = asyncio.run(_fight(batches, options.hosts, conditions))
    limit = GRACE + options.tolerance
    rows = sum_up(fights, limit)
    print(table_text(rows, limit))
    print(f"a bystander that only slept was kept waiting for up to {starved:.3f} s")
    for name, behaviour in BEHAVIOURS.items():
        if not behaviour.available and name in selection.behaviours:
            print(f"not available here: {name}")
    wrong = [f"{f.batch.backend}, {f.batch.trigger}: {text}" for f in fights for text in f.survivors() + f.complaints()]
    if wrong:
        print("\nwrong", *wrong[:SHOWN], f"{len(wrong)} in all", sep="\n  ")
    return int(bool(wrong) or any(row.late for row in rows.values()))


async def _fight(batches: Iterable[Batch], hosts: int, conditions: Conditions) -> tuple[list[Fight], float]:
    """How all went, and for how many seconds the machine kept a bystander waiting."""
    bystander = await start_module("torture.bystander", tempfile.gettempdir(), "")
    assert bystander.stdout is not None
    try:
        fights = await Arena(Marks(), hosts, conditions).fight(batches)
        bystander.terminate()
        return fights, float(await bystander.stdout.read())
    finally:
        await end_host(bystander)


def _schedules(options: argparse.Namespace) -> int:
    marks, selection = Marks(), Selection(backends=tuple(options.backend or BACKENDS))
    terms = make_terms(selection, options.count, options.seed, marks)
    if options.replay is not None:
        terms = [
            Terms(options.replay, backend, options.loop, marks.token, 0, starved=options.starved)
            for backend in selection.backends
        ]
    verdicts = asyncio.run(run_schedules(terms, marks, options.hosts))
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    print(*wrong[:SHOWN], f"{len(verdicts)} schedules, {len(wrong)} of them wrong", sep="\n")
    return int(bool(wrong))


def _each_backend(main_of: Callable[[str, int, int], int], options: argparse.Namespace) -> int:
    return max(main_of(backend, options.commands, options.seed) for backend in options.backend or BACKENDS)


if __name__ == "__main__":
    sys.exit(main())
