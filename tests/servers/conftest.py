"""All of it is slow, and needs the servers: `pip install -e '.[test,servers]'`."""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before they are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(180))
