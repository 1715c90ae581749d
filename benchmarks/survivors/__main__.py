"""`python -m benchmarks.survivors`: measure, report, save."""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.child import MeasurementFailed
from benchmarks.machine import describe_machine, one_line
from benchmarks.record import save_text
from benchmarks.survivors.measure import PATIENCE, Survey, measure
from benchmarks.survivors.peers import PEERS, Peer
from benchmarks.survivors.scenarios import SCENARIOS, TIMEOUT
from benchmarks.table import aligned

RESULTS = pathlib.Path(__file__).parent.parent / "results" / "survivors.json"
NOTES = f"""\
A shell starts a `sleep` in the background and runs another; output is captured; a timeout ends it after {TIMEOUT:g} s.
Each cell: how many of the three were alive when the call had returned, and after how many seconds it had.
hangs: it came back when the sleeps had ended by themselves, after so many seconds, or not within {PATIENCE:g} s.
caller killed with -9: how many were alive 1.5 s after the process that made the call was killed."""


def main() -> None:
    """Run what was asked for."""
    names, output = _parse()
    if not pathlib.Path("/proc/self/cmdline").exists():
        sys.exit("this needs /proc, to see what is left")
    words = [f"{PEERS[name].label}: left out: {why}" for name in names if (why := _missing(PEERS[name]))]
    machine = describe_machine()
    surveys: list[Survey] = []
    for peer in (PEERS[name] for name in names if not _missing(PEERS[name])):
        print(f"{peer.label} …", file=sys.stderr, flush=True)
        for scenario in SCENARIOS.values():
            try:
                surveys.append(measure(peer, scenario))
            except MeasurementFailed as error:
                words.append(f"{peer.label}, {scenario.heading}: failed: {error}")

    print(f"\n{one_line(machine)}\n", table(surveys), "", NOTES, sep="\n")
    if words:
        print("\nleft out, or failed", *words, sep="\n  ")
        output = None if output is RESULTS else output
    if output is None:
        print("\nnot the whole run, so nothing is saved; --output FILE saves it there")
        return
    record = {
        "machine": machine,
        "versions": _versions(names),
        "units": "seconds, processes",
        "surveys": [_record(survey) for survey in surveys],
        "left_out_or_failed": words,
    }
    save_text(output, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"\nsaved {output.name}")


def table(surveys: Sequence[Survey]) -> str:
    """A row for each peer, a column for each scenario."""
    found = {(survey.peer, survey.scenario): survey for survey in surveys}
    rows = [
        (PEERS[name].label, *(_cell(found.get((name, scenario))) for scenario in SCENARIOS))
        for name in dict.fromkeys(survey.peer for survey in surveys)
    ]
    return aligned([("", *(scenario.heading for scenario in SCENARIOS.values())), *rows])


def _cell(survey: Survey | None) -> str:
    if survey is None:
        return "-"
    after = "" if survey.seconds is None else f"{survey.seconds:.1f} s"
    if survey.hangs:
        return f"hangs, {after or f'{survey.survivors} left'}"
    return f"{survey.survivors}, {after}" if after else f"{survey.survivors}"


def _missing(peer: Peer) -> str:
    """Why a peer cannot take part; empty if it can."""
    if peer.module and importlib.util.find_spec(peer.module) is None:
        return f"{peer.module} is not installed"
    return ""


def _versions(names: Sequence[str]) -> dict[str, str]:
    peers = [PEERS[name] for name in names]
    return {
        peer.module: importlib.metadata.version(peer.module) for peer in peers if peer.module and not _missing(peer)
    }


def _record(survey: Survey) -> dict[str, object]:
    seconds = survey.seconds and round(survey.seconds, 3)
    return {**dataclasses.asdict(survey), "seconds": seconds, "hangs": survey.hangs}


def _parse() -> tuple[list[str], pathlib.Path | None]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.survivors",
        description="Count what is left of a command that was ended, with aiocmdpool and with others.",
    )
    parser.add_argument("--only", metavar="NAMES", help=f"some of: {', '.join(PEERS)}; nothing is saved")
    parser.add_argument("--output", metavar="FILE", type=pathlib.Path, help="save there, whatever the run")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(PEERS)
    if unknown := set(names) - set(PEERS):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are: {', '.join(PEERS)}")
    return names, given.output or (None if given.only else RESULTS)


if __name__ == "__main__":
    main()
