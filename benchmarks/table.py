"""The report of a run as plain text."""

from collections.abc import Sequence

from benchmarks.contenders import CONTENDERS
from benchmarks.figures.every import Figures
from benchmarks.quantiles import Spread
from benchmarks.results import Cell, Results

HEADINGS = ("", "commands/s", "of the floor", "(from, to)", "CPU µs", "workers' µs", "lag ms p50", "p99", "max")
NOTES = """\
commands/s: median over the rounds. of the floor: median of the ratios to the C floor of the same round.
CPU µs: of the parent for each command, user and system, without children. workers' µs: of the resident workers.
lag ms: how late a heartbeat of 1 ms was, while the commands ran.
The floor is one process; one for each core is what the machine can do at most.
xargs does not capture: what its commands print goes to one common pipe."""


def comparison_text(results: Results) -> str:
    """A table for each cell."""
    return "\n\n".join(_cell_text(results, cell) for cell in results.cells())


def _cell_text(results: Results, cell: Cell) -> str:
    workload, in_flight, heap = cell
    title = f"{workload}, {in_flight} in flight" + (f", {heap >> 30} GB resident in the parent" if heap else "")
    rows: list[tuple[str, ...]] = [HEADINGS]
    for name in results.contenders(cell):
        ratio = results.ratio(name, cell)
        rows.append(
            (
                CONTENDERS[name].label,
                _middle(results.spread(name, cell, "rate"), 1, ".0f"),
                _middle(ratio, 1, ".2f"),
                f"({ratio.low:.2f}, {ratio.high:.2f})" if ratio else "",
                *(_middle(results.spread(name, cell, figure), 1e-6, ".0f") for figure in ("cpu", "worker_cpu")),
                *(
                    _middle(results.spread(name, cell, figure), 1e-3, ".1f")
                    for figure in ("lag_p50", "lag_p99", "lag_max")
                ),
            )
        )
    return f"{title}\n{aligned(rows)}"


def _middle(spread: Spread | None, unit: float, form: str) -> str:
    return "-" if spread is None else format(spread.median / unit, form)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )


def figures_text(figures: Figures) -> str:
    """A few lines for each separate figure."""
    lines = []
    if idle := figures.get("idle pool"):
        lines.append(
            f"idle pool, {idle['seconds']:g} s: {idle['context_switches']:.0f} context switches, "
            f"{idle['cpu'] * 1e6:.0f} µs of CPU, {idle['worker_rss'] / 1e6:.1f} MB a worker"
        )
    if start := figures.get("start"):
        lines.append(
            f"start of a pool of 2, until each has answered: {start['median'] * 1e3:.0f} ms "
            f"({start['low'] * 1e3:.0f} to {start['high'] * 1e3:.0f})"
        )
    if single := figures.get("single commands"):
        lines.append(
            f"first call of `execute` in a process: {single['first_median'] * 1e3:.0f} ms; speed of later ones to "
            f"those of mode PROCESS: {single['later_ratio_median']:.2f}, with a new loop for each "
            f"{single['new_loop_ratio_median']:.2f}"
        )
    if sleep := figures.get("sleepers"):
        lines.append(
            f"1,000 sleeps of a second on 2 workers: {sleep['succeeded']:.0f} succeeded in {sleep['seconds']:.2f} s, "
            f"at most {sleep['worker_descriptors']:.0f} descriptors and {sleep['worker_rss'] / 1e6:.1f} MB in a worker"
        )
    if large := figures.get("large output"):
        for name, beside in (
            ("alone", "alone"),
            ("uncaptured", "beside 200 MB to the null device"),
            ("captured", "beside 200 MB captured"),
        ):
            p50, p99 = large[f"{name}_p50"] * 1e3, large[f"{name}_p99"] * 1e3
            lines.append(f"small commands {beside}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        lines.append(
            f"200 MB captured in {large['large_seconds'] * 1e3:.0f} ms; the parent grew by "
            f"{large['parent_growth'] / 1e6:.0f} MB, a worker had at most {large['worker_peak_rss'] / 1e6:.1f} MB"
        )
    if beat := figures.get("heartbeat alone"):
        lines += [
            f"heartbeat alone on {loop}: {beat[f'{loop}_cpu'] * 1e6:.0f} µs a beat, late by p50 "
            f"{beat[f'{loop}_lag_p50'] * 1e3:.1f} ms, p99 {beat[f'{loop}_lag_p99'] * 1e3:.1f} ms"
            for loop in ("asyncio", "uvloop")
        ]
    return "\n".join(lines)
