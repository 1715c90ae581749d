"""The programs that take part and may not be there: a C compiler for the floor, `xargs`, GNU parallel."""

import pathlib
import shutil
import subprocess

from benchmarks.contenders import FLOOR, FLOORS

SOURCE = pathlib.Path(__file__).parent / "floor.c"


def find_tools(folder: pathlib.Path) -> tuple[dict[str, str], dict[str, str]]:
    """Look for the tools, and build the floor.

    Args:
        folder: Where the floor is built; must outlive the measurements.

    Returns:
        The paths of those that are there, and for each of the others why it is not.
    """
    paths: dict[str, str] = {}
    missing: dict[str, str] = {}
    compiler = shutil.which("cc")
    if compiler is None:
        missing[FLOOR] = missing[FLOORS] = "no C compiler (cc); without the floor there are no ratios to it"
    else:
        built = subprocess.run(
            [compiler, "-O2", "-o", str(folder / "floor"), str(SOURCE)], capture_output=True, text=True, check=False
        )
        if built.returncode == 0:
            paths[FLOOR] = paths[FLOORS] = str(folder / "floor")
        else:
            missing[FLOOR] = missing[FLOORS] = f"floor.c does not compile: {built.stderr.strip().splitlines()[-1:]}"
    for name in ("xargs", "parallel"):
        path = shutil.which(name)
        if path is None:
            missing[name] = f"{name} is not installed"
        elif name == "parallel" and not _is_gnu(path):
            missing[name] = "the installed parallel is not the GNU one"
        else:
            paths[name] = path
    return paths, missing


def _is_gnu(path: str) -> bool:
    """Whether it is GNU parallel; moreutils has a program of the same name."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return said.stdout.startswith("GNU parallel")
