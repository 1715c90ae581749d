"""Signature and help text for classes whose `__new__` takes anything so that it can name mistyped options."""

import ast
import contextlib
import inspect
import itertools
import sys
from collections.abc import Iterator


class SignatureOfInit:
    """A descriptor for `__signature__` of a class: computes the signature of its `__init__` on access."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]  # of this very class, not of a subclass
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


class DocWithOptions(str):
    """A descriptor for `__doc__` of a dataclass: its docstring, then each option with its description from the source.

    Computed on access, from the source of the class; where there is no source, the docstring stands alone.
    """

    _whole: str | None = None

    def __get__(self, instance: object, owner: type) -> str:
        if self._whole is None:
            self._whole, options = inspect.cleandoc(self), ""
            with contextlib.suppress(OSError, TypeError, SyntaxError):
                file = sys.modules[owner.__new__.__module__]  # `owner.__module__` is that of the package
                options = "\n".join(_described(inspect.getsource(file), owner.__name__))
            if options:
                self._whole = f"{self._whole}\n\nOptions:\n{options}\n"
        return self._whole


def _described(source: str, name: str) -> Iterator[str]:
    """Yield each option of the class `name` of a file with its description."""
    [body] = [each.body for each in ast.parse(source).body if isinstance(each, ast.ClassDef) and each.name == name]
    for field, text in itertools.pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            yield f"    {field.target.id}: {' '.join(text.value.value.split())}"
