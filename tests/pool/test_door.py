"""The door: what `import aiocmdpool` offers is what it says, and everything is documented."""

import inspect
import types

import pytest

import aiocmdpool


def public_members(thing):
    """Methods and properties that a class of ours defines itself."""
    return {
        name: member
        for name, member in vars(thing).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property | classmethod))
    }


CLASSES = [name for name in aiocmdpool.__all__ if inspect.isclass(getattr(aiocmdpool, name))]


def test_all_is_what_can_be_imported():
    offered = {
        name
        for name, thing in vars(aiocmdpool).items()
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
    }
    assert set(aiocmdpool.__all__) == offered


def test_all_is_sorted_and_has_nothing_twice():
    assert list(aiocmdpool.__all__) == sorted(set(aiocmdpool.__all__))


def test_a_star_import_gives_exactly_that():
    namespace = {}
    exec("from aiocmdpool import *", namespace)
    del namespace["__builtins__"]
    assert namespace.keys() == set(aiocmdpool.__all__)


def test_the_version_is_a_version():
    assert [part.isdecimal() for part in aiocmdpool.__version__.split(".")[:2]] == [True, True]


@pytest.mark.parametrize("name", aiocmdpool.__all__)
def test_every_name_is_documented(name):
    thing = getattr(aiocmdpool, name)
    documentation = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert documentation
    # A dataclass without a docstring is given its signature as one.
    assert not documentation.startswith(f"{name}(")


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_documented(name):
    members = public_members(getattr(aiocmdpool, name))
    undocumented = [member for member, thing in members.items() if not inspect.getdoc(thing)]
    assert undocumented == []


@pytest.mark.parametrize("name", aiocmdpool.__all__)
def test_every_name_is_typed(name):
    thing = getattr(aiocmdpool, name)
    functions = [thing] if inspect.isfunction(thing) else []
    if inspect.isclass(thing):
        functions = [member for member in public_members(thing).values() if inspect.isfunction(member)]
    for function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is inspect.Parameter.empty and parameter.name not in ("self", "cls", "_")
        ]
        assert untyped == [], function
