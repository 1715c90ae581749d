"""Fixtures of the worker's tests."""

from collections.abc import Iterator

import pytest

from .fake_parent import FakeParent


@pytest.fixture
def parent() -> Iterator[FakeParent]:
    """A parent with a real worker program."""
    with FakeParent() as parent:
        yield parent
