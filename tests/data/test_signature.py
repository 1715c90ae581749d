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
    line = next(line for line in shown.splitlines() if f"    {name}: " in line)
    assert len(line.split(f"{name}: ")[1]) > 10
    assert "One command: a program" in shown
