"""Saves a run as JSON."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from benchmarks.figures.every import Figures
from benchmarks.goals import Verdict
from benchmarks.options import Options
from benchmarks.results import Results


def save_json(
    path: pathlib.Path,
    options: Options,
    machine: dict[str, str | int | float],
    results: Results,
    figures: Figures,
    verdicts: list[Verdict],
    words: list[str],
) -> None:
    """Write everything that was measured; all of it or nothing."""
    record: dict[str, Any] = {
        "machine": machine,
        "run": {"rounds": options.rounds, "grid_rounds": options.grid_rounds, "seed": options.seed},
        "units": "seconds, bytes, commands a second",
        "goals": [_goal(verdict) for verdict in verdicts],
        "figures": {name: {k: float(f"{v:.5g}") for k, v in values.items()} for name, values in figures.items()},
        "comparison": results.as_records(),
        "left_out_or_failed": words,
    }
    save_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _goal(verdict: Verdict) -> dict[str, Any]:
    fields = dataclasses.asdict(verdict)
    fields["measured"] = verdict.measured and verdict.measured.as_fields()
    return {**fields, "unit": verdict.unit.strip(), "met": verdict.met}


def save_text(path: pathlib.Path, text: str) -> None:
    """Write a file; whoever reads it meanwhile sees the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
