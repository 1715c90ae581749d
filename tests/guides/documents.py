"""Find the guides and the docstrings with examples, and take their blocks out of them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sybil import Document
from sybil.document import PythonDocStringDocument
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown import CodeBlockParser

if TYPE_CHECKING:
    from doctest import Example as DoctestExample

ROOT = Path(__file__).resolve().parents[2]
_GUIDES = ("README.md", "examples/README.md", "aiocmdpool/**/README.md", "benchmarks/README.md", "tests/README.md")
_ONLY_COMPILED = re.compile(r"<!-- only compiled: (?P<why>[^>]{10,}?) -->\s*\Z")


class Step(NamedTuple):
    """One piece of code of a document, to be run after those before it."""

    line: int  # of the document, counted from 1, on which the code begins
    source: str
    want: str | None = None  # what an `>>>` example shows below it; `None`: not an `>>>` example
    why_not_run: str = ""  # the reason why it is only compiled; empty: it is run


def guides() -> list[Path]:
    """Return the paths of all guides: the README of the project and those in its folders."""
    return sorted(path for pattern in _GUIDES for path in ROOT.glob(pattern))


def steps_of_guide(path: Path) -> list[Step]:
    """Return the Python blocks of a Markdown file in order, those in comments (`invisible-code`) included."""
    document = Document.parse(str(path), CodeBlockParser("python", evaluator=_not_used))
    found = []
    for block in document.examples():
        reason = _ONLY_COMPILED.search(document.text, 0, block.start)
        why_not_run = reason["why"] if reason else ""
        line = block.line + 1  # below the fence
        if block.parsed.startswith(">>>"):
            found += [step._replace(why_not_run=why_not_run) for step in _examples(block.parsed, line)]
        else:
            found.append(Step(line, block.parsed, why_not_run=why_not_run))
    return found


def docstrings() -> Iterator[tuple[Path, list[Step]]]:
    """Yield the steps of each docstring of the package that has `>>>` examples, with the path of its module."""
    for path in sorted((ROOT / "aiocmdpool").rglob("*.py")):
        text = path.read_text()
        if ">>>" not in text:
            continue
        for start, _, docstring in PythonDocStringDocument.extract_docstrings(text):
            if steps := _examples(docstring, 1 + text.count("\n", 0, start)):
                yield path, steps


def _examples(text: str, first_line: int) -> list[Step]:
    examples: list[DoctestExample] = [region.parsed for region in DocTestStringParser(_not_used)(text, "example")]
    return [Step(first_line + example.lineno, example.source, example.want) for example in examples]


def _not_used(example: object) -> None:
    """Stand where sybil wants an evaluator: `Reading` runs the steps instead, on one loop."""
    raise AssertionError(example)
