"""Run the steps of one document in order, on one loop and in one namespace, like a reader who types them in."""

import ast
import asyncio
import builtins
import contextlib
import doctest
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiocmdpool
import aiocmdpool.sync

from .documents import Step
from .given import CONTEXTS, VALUES

PATIENCE = 10.0  # seconds for what is legitimately finishing
_CHECKER = doctest.OutputChecker()
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Reading:
    """One document that is being read: use it in a `with` block, and `follow` its steps.

    Each block sees the public names of `aiocmdpool`, `asyncio`, and what the blocks before it have defined. A name that
    nobody has defined is looked up in `given.py`. A block that awaits runs on the loop, any other
    without a running loop.
    """

    def __init__(self, path: Path, names: dict[str, Any] | None = None) -> None:
        public = {name: getattr(aiocmdpool, name) for name in aiocmdpool.__all__}
        self.names: dict[str, Any] = {"asyncio": asyncio, "aiocmdpool": aiocmdpool, **public, **(names or {})}
        self.names["__name__"] = "__main__"
        self._path = path
        self._given = contextlib.AsyncExitStack()
        self._unseen: list[str] = []  # what only the loop's exception handler heard of

    def __enter__(self) -> "Reading":
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._runner.get_loop().set_exception_handler(lambda _, context: self._unseen.append(repr(context)))
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._runner.run(self._given.aclose())
            left = self._runner.run(_tasks_that_stay()) + self._unseen
        finally:
            self._runner.close()
            aiocmdpool.sync.shutdown()
        if left and error[0] is None:
            raise AssertionError(f"the blocks of {self._path} leave behind: {left}")

    def follow(self, step: Step) -> None:
        """Compile a step; run it, unless it says why it is not run; compare what it prints if it is an example."""
        tree = ast.parse("\n" * (step.line - 1) + step.source, str(self._path))
        if step.want is not None:
            tree = ast.Interactive(tree.body)  # an expression prints its value
        mode = "exec" if step.want is None else "single"
        code = compile(tree, str(self._path), mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if step.why_not_run:
            return
        for name in sorted(_free_names(tree) - self.names.keys()):
            self._give(name)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(eval(code, self.names))
            else:
                exec(code, self.names)
        if step.want and not _CHECKER.check_output(step.want, printed.getvalue(), _FLAGS):
            where = f"{self._path}:{step.line}"
            raise AssertionError(f"{where}: {step.source}shows\n{printed.getvalue()}and not\n{step.want}")

    def _give(self, name: str) -> None:
        if name in CONTEXTS:
            self.names[name] = self._runner.run(self._given.enter_async_context(CONTEXTS[name]()))
        elif name in VALUES:
            self.names[name] = VALUES[name]


async def _tasks_that_stay() -> list[str]:
    """Return the tasks of this loop that are not about to finish."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=PATIENCE)
    return [repr(task) for task in tasks]


def _free_names(tree: ast.AST) -> set[str]:
    """Return the names that the code loads and nowhere binds."""
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return loaded - set(_bound_names(tree)) - vars(builtins).keys()


def _bound_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield (other or name).partition(".")[0]
