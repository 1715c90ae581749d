"""CPython's own tests of asyncio's subprocesses, run against `ProcessPool`: `python -m tests.asyncio_api.conformance`.

They are taken from the interpreter that runs this, where it ships its tests. Each passes, is skipped by itself, or is
listed here with the reason why it cannot apply; a listed one that passes is an error as well.
"""

import argparse
import asyncio
import importlib
import platform
import sys
import unittest
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import uvloop

from aiocmdpool import ProcessPool
from aiocmdpool.asyncio_api.transport import WorkerSubprocessTransport

MODULE = "test.test_asyncio.test_subprocess"

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "asyncio-debug": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

_NO_POPEN = "it replaces subprocess.Popen, which has no part in this: a worker starts the program"
_NO_WATCHER = "it is about asyncio's child watchers, which a worker's programs do not need"
_BLOCKS = "it waits for the program by blocking the loop over which its exit would be told"
_FIXED = "it replaces methods of a transport, which uvloop's pipes do not allow"

LISTED: dict[str, dict[str, str]] = {
    "test_popen_error": dict.fromkeys(LOOPS, _NO_POPEN),
    "test_popen_error_with_stdin_pipe": dict.fromkeys(LOOPS, _NO_POPEN),
    "test_close_dont_kill_finished": dict.fromkeys(LOOPS, _BLOCKS),
    "test_pause_reading": {"uvloop": _FIXED},
}
LISTED_CASES = dict.fromkeys(("GenericWatcherTests", "MultiLoopChildWatcherTests"), _NO_WATCHER)


def load() -> ModuleType | None:
    """The tests of this interpreter; `None` where it does not ship them."""
    try:
        return importlib.import_module(MODULE)
    except ImportError:
        return None


def cases_of(module: ModuleType, loop_name: str) -> list[type[unittest.TestCase]]:
    """Its test cases, bound to a pool on a loop of that kind."""

    class ProcessPoolTests(module.SubprocessMixin, module.test_utils.TestCase):  # type: ignore[name-defined, misc]
        def setUp(self) -> None:
            super().setUp()
            self.loop = LOOPS[loop_name]()
            self.loop.set_debug(loop_name == "asyncio-debug")
            self.set_event_loop(self.loop)
            pool = ProcessPool(1)
            self.loop.run_until_complete(pool.start())
            self.addCleanup(self.loop.close)
            self.addCleanup(lambda: self.loop.run_until_complete(pool.aclose()))
            for target in (asyncio, asyncio.subprocess):
                for name in ("create_subprocess_exec", "create_subprocess_shell"):
                    patch = mock.patch.object(target, name, getattr(pool, name))
                    patch.start()
                    self.addCleanup(patch.stop)
            self.loop.subprocess_exec = pool.subprocess_exec

        def set_event_loop(self, loop: Any, *, cleanup: bool = True) -> None:
            super().set_event_loop(loop, cleanup=False)  # the pool is closed before

    class TestSubprocessTransport(WorkerSubprocessTransport):
        _start = module.TestSubprocessTransport._start

    module.TestSubprocessTransport = TestSubprocessTransport  # type: ignore[attr-defined]
    return [ProcessPoolTests, module.SubprocessTransportTests]


class Verdicts(unittest.TestResult):
    """Sorts outcomes by what was to be expected."""

    def __init__(self, loop_name: str) -> None:
        super().__init__()
        self._loop_name = loop_name
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def _listed(self, test: Any) -> bool:
        return self._loop_name in LISTED.get(test._testMethodName, {})

    def addSuccess(self, test: Any) -> None:
        if self._listed(test):
            self.wrong.append(f"{test.id()} is listed, but passes")
        else:
            self.counts["passed"] += 1

    def addSkip(self, test: Any, reason: str) -> None:
        self.counts["skipped"] += 1

    def addFailure(self, test: Any, error: Any) -> None:
        if self._listed(test):
            self.counts["listed"] += 1
        else:
            self.wrong.append(f"{test.id()}:\n{self._exc_info_to_string(error, test)}")  # type: ignore[attr-defined]

    addError = addFailure

    def text(self) -> str:
        """The totals, and what went wrong."""
        total = sum(self.counts.values()) + len(self.wrong)
        counts = ", ".join(f"{self.counts[word]} {word}" for word in ("passed", "listed", "skipped"))
        line = (
            f"CPython {platform.python_version()}, {self._loop_name}: {total} tests: {counts}, {len(self.wrong)} wrong"
        )
        return "\n".join([line, *self.wrong])


def main() -> int:
    """Run them on the loops that were asked for; the exit status says whether all is as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loop", action="append", choices=LOOPS, help="only this one; may be repeated")
    parser.add_argument("-k", metavar="TEXT", default="", help="only tests with this in their names")
    options = parser.parse_args()
    module = load()
    if module is None:
        print(f"CPython {platform.python_version()} comes without its tests here")
        return 0
    failed = False
    for loop_name in options.loop or LOOPS:
        verdicts = Verdicts(loop_name)
        for case in cases_of(module, loop_name):
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
                if options.k in test.id():
                    test.run(verdicts)
        for name in LISTED_CASES:
            if hasattr(module, name):
                verdicts.counts["listed"] += len(unittest.defaultTestLoader.getTestCaseNames(getattr(module, name)))
        print(verdicts.text(), flush=True)
        failed = failed or bool(verdicts.wrong)
    for name, reasons in LISTED.items():
        for reason in dict.fromkeys(reasons.values()):
            print(f"listed: {name} ({', '.join(k for k in reasons if reasons[k] == reason)}): {reason}")
    for name, reason in LISTED_CASES.items():
        print(f"listed: {name}: {reason}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
