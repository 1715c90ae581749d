"""`publish`: names under which users know classes and functions, whatever file those are in."""

from collections.abc import Iterable
from types import FunctionType
from typing import Any


def publish(names: Iterable[str], namespace: dict[str, Any]) -> None:
    """Have the classes and functions of a package named after it in tracebacks, `repr`, pickles and traces.

    Files may be moved then, and pickles of other versions still be read. A name that another package has published
    before stays that of the other package.

    Args:
        names: What the package offers, its `__all__`.
        namespace: Its globals.
    """
    package = namespace["__name__"]
    for name in names:
        each = namespace[name]
        if (
            isinstance(each, type | FunctionType)
            and each.__module__.startswith("aiocmdpool.")
            and each.__name__ == name
        ):
            each.__module__ = package
