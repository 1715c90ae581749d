"""Real files, and pools of each mode to put them through."""

import os
import shutil
from pathlib import Path

import pytest

from aiocmdpool import CommandPool, ExecutionConfig, ExecutionMode

BIN = Path("/usr/bin")
LIBRARY = Path(os.path.dirname(os.__file__))
SOURCES = 200  # at most


@pytest.fixture(scope="session")
def programs() -> list[Path]:
    """The regular files of /usr/bin that this user may read."""
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    regular = [path for path in sorted(BIN.iterdir()) if path.is_file() and not path.is_symlink()]
    return [path for path in regular if os.access(path, os.R_OK)]


@pytest.fixture(scope="session")
def sources() -> list[Path]:
    """Source files of the standard library, an empty one and the largest among them."""
    if shutil.which("gzip") is None or shutil.which("gunzip") is None:
        pytest.skip("there is no gzip, or no gunzip")
    found = sorted([*LIBRARY.glob("*.py"), *LIBRARY.glob("*/*.py")], key=lambda path: path.stat().st_size)
    step = max(1, len(found) // SOURCES)
    return found[:-1:step] + found[-1:]


@pytest.fixture(params=[ExecutionMode.PROCESS, ExecutionMode.PROCESS_POOL], ids=lambda mode: mode.value)
async def pool(request):
    """A pool of each mode."""
    async with CommandPool(ExecutionConfig(mode=request.param, concurrency_limit=4)) as pool:
        yield pool
