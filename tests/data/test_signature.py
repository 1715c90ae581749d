"""What an editor and `help()` show of a command."""

import inspect
import pydoc

import pytest

from aiocmdpool import CommandConfig
from aiocmdpool.commands.command import CommandOptions

OPTIONS = list(CommandOptions.__annotations__)


def test_the_signature_names_every_option_in_order():
    signature = inspect.signature(CommandConfig)
    assert list(signature.parameters) == ["program", "args", *OPTIONS]
    assert {signature.parameters[name].kind for name in OPTIONS} == {inspect.Parameter.KEYWORD_ONLY}
    assert signature.parameters["timeout"].default is None
    assert signature.bind("git", ["log"], timeout=5).arguments["timeout"] == 5


@pytest.mark.parametrize("name", OPTIONS)
def test_help_describes_every_option(name):
    shown = pydoc.plain(pydoc.render_doc(CommandConfig))
    # CPython 3.13 breaks a long signature: an option has a line there as well.
    described = [line.split(f"{name}: ")[1] for line in shown.splitlines() if f"    {name}: " in line]
    assert max(map(len, described)) > 10
    assert any(" " in text.strip(" ,") and "=" not in text for text in described)
    assert "One command: a program" in shown
