"""Whatever a guide or a docstring shows as Python runs, in the order in which it stands there."""

import importlib
from pathlib import Path

import pytest

from .documents import ROOT, Step, docstrings, guides, steps_of_guide
from .reading import Reading


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


DOCSTRINGS = list(docstrings())


@pytest.mark.parametrize("path", guides(), ids=_name)
def test_guide(path: Path) -> None:
    with Reading(path) as reading:
        for step in steps_of_guide(path):
            reading.follow(step)


@pytest.mark.parametrize(
    ("path", "steps"), DOCSTRINGS, ids=[f"{_name(path)}:{steps[0].line}" for path, steps in DOCSTRINGS]
)
def test_docstring(path: Path, steps: list[Step]) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    with Reading(path, vars(module)) as reading:
        for step in steps:
            reading.follow(step)


def test_no_example_is_missed() -> None:
    """What is found by looking at lines is what is found by the parsers."""
    found = sum(len(steps) for _, steps in DOCSTRINGS)
    package = (ROOT / "aiocmdpool").rglob("*.py")
    assert found == sum(line.lstrip().startswith(">>> ") for path in package for line in path.read_text().splitlines())
    for path in guides():
        fences = [line for line in path.read_text().splitlines() if line.lstrip(" >-*").startswith("```python")]
        blocks = [step for step in steps_of_guide(path) if step.want is None]
        assert len(fences) <= len(blocks) + path.read_text().count("```python\n>>>"), path


@pytest.mark.parametrize("path", guides(), ids=_name)
def test_python_is_called_python(path: Path) -> None:
    """A block under another name of the language would not be run."""
    languages = {line.strip(" `") for line in path.read_text().splitlines() if line.lstrip().startswith("```")}
    assert not languages & {"py", "python3", "pycon", "Python"}
