"""Draws the main comparison: a row for each contender, and side by side what it does, costs and stalls.

Written by hand as SVG, so that it needs nothing and follows the reader's light or dark theme.
"""

import dataclasses
from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.contenders import CONTENDERS, FLOOR
from benchmarks.goals import MAIN
from benchmarks.machine import one_line
from benchmarks.options import Options
from benchmarks.quantiles import Spread
from benchmarks.results import Results

WIDTH, MARGIN, TOP = 1040, 28, 116
LABELS = 270  # width of the column with the names
ROW, ROW_WITH_HEAP, BETWEEN_GROUPS = 30, 47, 18
BAR, THIN_BAR = 14, 8

STYLE = """
  .card { fill: #ffffff; stroke: #d8dee6; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #2b333d; }
  .title { font-size: 19px; font-weight: 600; }
  .head { font-weight: 600; }
  .quiet { fill: #67717e; font-size: 12px; }
  .value { font-weight: 600; font-size: 12px; }
  .halo { fill: none; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round; }
  .end { text-anchor: end; }
  .ours { fill: #2f6feb; } .other { fill: #9aa5b4; }
  .ours-heap { fill: #2f6feb; opacity: .45; } .other-heap { fill: #9aa5b4; opacity: .55; }
  .whisker { stroke: #2b333d; stroke-width: 1.2; opacity: .55; }
  .axis { stroke: #d8dee6; } .floor { stroke: #d1242f; stroke-dasharray: 4 3; }
  .floor-word { fill: #d1242f; font-size: 12px; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #151b23; stroke: #303a46; }
    text { fill: #dde4ec; } .halo { stroke: #151b23; } .quiet { fill: #93a0ae; }
    .ours, .ours-heap { fill: #5c97ff; } .other, .other-heap { fill: #66717f; }
    .whisker { stroke: #dde4ec; } .axis { stroke: #303a46; }
    .floor { stroke: #ff7b72; } .floor-word { fill: #ff7b72; }
  }
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One figure of all contenders."""

    title: str
    left: int
    width: int
    """Of the longest bar; the values stand beyond."""
    unit: float
    word: str
    places: int
    spreads: dict[str, Spread]
    beside_heap: dict[str, Spread]

    @property
    def scale(self) -> float:
        """Pixels for each unit."""
        shown = [spread.median / self.unit for spread in self.spreads.values()]
        return self.width / max([*shown, 1e-9])

    def bar(self, name: str, middle: float) -> Iterator[str]:
        """The bar of one contender, with its whisker and value, and that beside a large heap below it."""
        kind = "ours" if CONTENDERS[name].ours else "other"
        if name in self.spreads:
            yield from self._single(self.spreads[name], middle, BAR, kind)
        elif not self.beside_heap:  # an external program has no loop and no parent
            yield _text(self.left + 2, middle + 4, "n/a", "quiet")
        if name in self.beside_heap:
            spread = self.beside_heap[name]
            yield from self._single(spread, middle + BAR / 2 + THIN_BAR / 2 + 4, THIN_BAR, f"{kind}-heap")

    def _single(self, spread: Spread, middle: float, height: float, kind: str) -> Iterator[str]:
        value = spread.median / self.unit
        length = max(1.0, value * self.scale)
        thin = height == THIN_BAR
        yield _rect(self.left, middle - height / 2, length, height, kind)
        low, high = (min(edge / self.unit * self.scale, self.width + 8) for edge in (spread.low, spread.high))
        if not thin and high - low > 1:
            yield _line(self.left + low, middle, self.left + high, middle, "whisker")
        said = f"{value:.{self.places}f}{self.word}" if value >= 0.095 or not self.places else f"{value:.3f}{self.word}"
        said, kind = (f"{said} with 2 GB resident", "quiet") if thin else (said, "value")
        x = self.left + max(length, 0 if thin else high) + 6
        yield _text(x, middle + 4, said, f"{kind} halo")  # what is below shall not run through the figure
        yield _text(x, middle + 4, said, kind)


def draw(results: Results, options: Options, machine: dict[str, str | int | float]) -> str:
    """The picture as SVG text."""
    columns = _columns(results, options.heap)
    rows = list(_rows(results, columns[0]))
    bottom = (rows[-1][1] if rows else TOP) + ROW
    height = bottom + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" '
        f'viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="aiocmdpool beside other ways to run commands">',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:g}" rx="10"/>',
        _text(MARGIN, 38, "Running /bin/true, output captured, 16 commands in flight", "title"),
        _text(MARGIN, 59, f"Median of {options.rounds} interleaved rounds; lines: lowest to highest round.", "quiet"),
    ]
    for column in columns:
        parts.append(_text(column.left, TOP - 24, column.title, "head"))
        parts.append(_line(column.left, TOP - 12, column.left, bottom - 8, "axis"))
    if columns[0].spreads:
        floor = columns[0].left + columns[0].scale
        parts.append(_line(floor, TOP - 12, floor, bottom - 8, "floor"))
        parts.append(_text(floor + 5, bottom, "1 = C, posix_spawn", "floor-word"))
    for name, middle in rows:
        parts.append(_text(MARGIN, middle + 4, CONTENDERS[name].label, "head" if CONTENDERS[name].ours else ""))
        for column in columns:
            parts += column.bar(name, middle)
    parts.append(_text(MARGIN, height - 20, one_line(machine), "quiet"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _columns(results: Results, heap: int) -> list[Column]:
    names = [name for name in CONTENDERS if name != FLOOR]
    heap_cell = (MAIN[0], MAIN[1], heap)

    def spreads(figure: str) -> dict[str, Spread]:
        return {name: spread for name in names if (spread := results.spread(name, MAIN, figure))}

    ratios = {name: ratio for name in names if (ratio := results.ratio(name, MAIN))}
    beside = {name: ratio for name in names if heap and (ratio := results.ratio(name, heap_cell))}
    start = MARGIN + LABELS
    return [
        Column("commands/s, relative to the C floor", start, 210, 1, "", 2, ratios, beside),
        Column("parent CPU per command", start + 330, 120, 1e-6, " µs", 0, spreads("cpu"), {}),
        Column("loop lag, p99", start + 546, 120, 1e-3, " ms", 1, spreads("lag_p99"), {}),
    ]


def _rows(results: Results, throughput: Column) -> Iterator[tuple[str, float]]:
    """Where the middle of each contender's row is; ours come first."""
    measured = [name for name in results.contenders(MAIN) if name != FLOOR]
    y = float(TOP)
    for ours in (True, False):
        for name in measured:
            if CONTENDERS[name].ours is ours:
                yield name, y + BAR / 2
                y += ROW_WITH_HEAP if name in throughput.beside_heap else ROW
        y += BETWEEN_GROUPS


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{kind}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
