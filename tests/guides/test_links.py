"""Links of guides lead to a file, and a heading, of this tree. Those of the README do so from a package page, too."""

import re
import tomllib
from pathlib import Path

import pytest

from .documents import ROOT, guides

REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
RAW = REPOSITORY.replace("github.com", "raw.githubusercontent.com")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def dead_links(path: Path) -> list[str]:
    """Return the links of a guide that lead nowhere, each with the reason."""
    dead = []
    for match in _LINK.finditer(_FENCED.sub("", path.read_text())):
        where, _, fragment = match["target"].partition("#")
        target = _target(where, path)
        if target is None:
            continue
        if not target.exists():
            dead.append(f"{match['target']}: no such file")
        elif fragment and fragment not in _anchors(target):
            dead.append(f"{match['target']}: no such heading")
    return dead


def _target(where: str, path: Path) -> Path | None:
    """Return the file that an address means; `None` if it is somebody else's."""
    for base in (f"{REPOSITORY}/blob/main/", f"{REPOSITORY}/tree/main/", f"{RAW}/main/"):
        if where.startswith(base):
            return ROOT / where.removeprefix(base)
    if re.match(r"\w+:", where):
        return None
    return path.parent / where if where else path


def _anchors(path: Path) -> set[str]:
    """Return the fragments by which GitHub knows the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", guides(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_name_what_is_there(path: Path) -> None:
    assert not dead_links(path)


def test_links_of_the_readme_are_absolute() -> None:
    """It is shown on a package page, where there is nothing beside it."""
    for match in _LINK.finditer(_FENCED.sub("", (ROOT / "README.md").read_text())):
        assert match["target"].startswith("https://")


@pytest.mark.parametrize(
    "link",
    [
        "other.md",
        "#no-such-heading",
        f"{REPOSITORY}/blob/main/no.md",
        f"{REPOSITORY}/blob/main/README.md#no-such-heading",
    ],
)
def test_a_dead_link_is_found(tmp_path: Path, link: str) -> None:
    guide = tmp_path / "README.md"
    guide.write_text(f"# A heading\n[dead]({link}) [alive](#a-heading) [elsewhere](https://example.org/)\n")
    assert [reason.partition(": ")[0] for reason in dead_links(guide)] == [link]


def unknown_files(path: Path) -> list[str]:
    """Return the Python files that a guide names, in backticks, and that are nowhere in this tree."""
    parts = ("aiocmdpool", "tests", "benchmarks", "examples")
    known = {f"/{file.relative_to(ROOT)}" for part in parts for file in (ROOT / part).rglob("*.py")}
    named = re.findall(r"`([\w/]+\.py)`", _FENCED.sub("", path.read_text()))
    return [name for name in named if not any(file.endswith(f"/{name}") for file in known)]


@pytest.mark.parametrize("path", guides(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    """When a file is moved or renamed, the guides go with it."""
    assert not unknown_files(path)


def test_a_file_that_has_moved_is_found(tmp_path: Path) -> None:
    guide = tmp_path / "README.md"
    guide.write_text("`pool/command_pool.py` was `pool/commands_pool.py`\n")
    assert unknown_files(guide) == ["pool/commands_pool.py"]
