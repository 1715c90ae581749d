"""`python -m benchmarks.facade`: measure, report, save."""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Iterable

from benchmarks.facade.calls import SUBPROCESS, latencies
from benchmarks.facade.threads import ASYNC_POOL, RATES
from benchmarks.machine import describe_machine, one_line
from benchmarks.quantiles import Spread
from benchmarks.record import save_text
from benchmarks.table import aligned

RESULTS = pathlib.Path(__file__).parent.parent / "results" / "facade.json"
TURNS = 100  # calls of each kind in a round
SECONDS = 0.7  # each rate of a round

Figures = dict[str, dict[str, dict[str, float]]]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facade", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="7 by default; with another number nothing is saved")
    parser.add_argument("--output", metavar="FILE", type=pathlib.Path, help="save there, whatever the run")
    given = parser.parse_args()
    machine = describe_machine()
    calls, rates = [], []
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
        calls.append(latencies(TURNS))
        rates.append({name: measure(SECONDS) for name, measure in RATES.items()})

    figures = {
        "one_call_at_a_time": _figures(calls, "seconds", lambda a_round, name: a_round[SUBPROCESS] / a_round[name]),
        "eight_at_once": _figures(rates, "per_second", lambda a_round, name: a_round[name] / a_round[ASYNC_POOL]),
    }
    print(f"\n{one_line(machine)}; load before the run {machine['load_before']}\n")
    print(_table(figures))
    output = given.output or (RESULTS if given.rounds == parser.get_default("rounds") else None)
    if output is None:
        print("\nnot the whole run, so nothing is saved; --output FILE saves it there")
        return
    record = {"machine": machine, "rounds": given.rounds, "turns": TURNS, "figures": figures}
    save_text(output, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"\nsaved {output.name}")


def _figures(rounds: list[dict[str, float]], unit: str, ratio: Callable[[dict[str, float], str], float]) -> Figures:
    """For each contender: its figure over the rounds, and its speed relative to the reference of the same round."""
    return {
        name: {
            unit: _fields(a_round[name] for a_round in rounds),
            "relative_speed": _fields(ratio(a_round, name) for a_round in rounds),
        }
        for name in rounds[0]
    }


def _fields(values: Iterable[float]) -> dict[str, float]:
    spread = Spread.of(values)
    assert spread is not None
    return spread.as_fields()


def _table(figures: dict[str, Figures]) -> str:
    rows = [("one call at a time, in one thread", "µs", "speed / subprocess.run")]
    for name, figure in figures["one_call_at_a_time"].items():
        rows.append((name, f"{figure['seconds']['median'] * 1e6:.0f}", _ratio(figure["relative_speed"])))
    rows.append(("eight at once", "per second", "speed / async pool"))
    for name, figure in figures["eight_at_once"].items():
        rows.append((name, f"{figure['per_second']['median']:.0f}", _ratio(figure["relative_speed"])))
    return aligned(rows)


def _ratio(fields: dict[str, float]) -> str:
    return f"{fields['median']:.2f} ({fields['low']:.2f} to {fields['high']:.2f})"


if __name__ == "__main__":
    main()
