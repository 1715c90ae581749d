"""What `inspect.signature` and `help()` show of a class whose `__new__` takes anything, to name what is mistyped."""

import ast
import contextlib
import inspect
import itertools
import textwrap
from collections.abc import Iterator


class SignatureOfInit:
    """For `__signature__` of a class: that of its `__init__`. Made when somebody asks."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]  # it is that of this very class
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


class DocWithOptions(str):
    """For `__doc__` of a dataclass: its docstring, then each option with the text below it in the source.

    Made when somebody asks, from the source of the class; where there is none, the docstring stands alone.
    """

    _whole: str | None = None

    def __get__(self, instance: object, owner: type) -> str:
        if self._whole is None:
            self._whole, options = inspect.cleandoc(self), ""
            with contextlib.suppress(OSError, TypeError, SyntaxError):
                options = "\n".join(_described(inspect.getsource(owner)))
            if options:
                self._whole = f"{self._whole}\n\nOptions:\n{options}\n"
        return self._whole


def _described(source: str) -> Iterator[str]:
    [kind] = ast.parse(textwrap.dedent(source)).body
    body = kind.body if isinstance(kind, ast.ClassDef) else []
    for field, text in itertools.pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            yield f"    {field.target.id}: {' '.join(text.value.value.split())}"
