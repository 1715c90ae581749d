"""Fixtures of the worker's tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from .fake_parent import FakeParent

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture
def parent() -> Iterator[FakeParent]:
    """A parent with a real worker program."""
    with FakeParent() as parent:
        yield parent
