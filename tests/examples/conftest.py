"""Examples as processes; none of them survives its test."""

import contextlib
from pathlib import Path

import pytest

from .support import Running, example_argv


@pytest.fixture
def start():
    """Call it with the name of an example and its arguments, or with `argv`, for the process."""
    with contextlib.ExitStack() as running:

        def begin(name, *arguments, argv=None, **environment):
            process = Running(argv or example_argv(name, *arguments), **environment)
            running.callback(process.close)
            return process

        yield begin


@pytest.hookimpl(tryfirst=True)  # before they are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.slow)
