"""Finds the Python that runs the programs of this package: workers, and the launcher of commands with settings.

    ExecutionConfig(python=...) ── AIOCMDPOOL_PYTHON ── sys.executable, if that is a Python

Where Python is embedded (uWSGI) or frozen (PyInstaller), `sys.executable` may be anything: the application itself,
which would start itself again, and again. So it is only started if it is this very interpreter, or has been tried and
is one. A frozen application that calls `freeze_support` is started as a worker, and does nothing else then.

The started program has a variable in its environment by which an application that is started by mistake knows that it
must not start more; commands never see it.
"""

import contextlib
import os
import re
import resource
import shutil
import sys
import threading
import zipimport
from collections.abc import Callable
from typing import NamedTuple

import aiocmdpool.standalone
from aiocmdpool.standalone.kernel.launcher import NESTED
from aiocmdpool.standalone.kernel.transient import PASSING
from aiocmdpool.system.probe import OLDEST, what_is_wrong_with

SETTING = "AIOCMDPOOL_PYTHON"
APPLICATION = "--aiocmdpool"  # first argument of a frozen application that is started as a worker or launcher
CURE = f"set {SETTING}, or ExecutionConfig(python=...), to a Python of at least {OLDEST[0]}.{OLDEST[1]}"
_PYTHON_NAME = re.compile(r"(python|pypy|graalpy)[\d.]*[a-z]?")
_FROM_ZIP = "import sys; sys.path.insert(0, {!r}); from standalone.kernel.launcher import main; main()"
_FOLDER = aiocmdpool.standalone.__path__[0]


class NoPython(Exception):
    """There is no usable interpreter; the message says why, and what to do.

    Args:
        message: The reason and the cure.
        may_pass: Whether another try may succeed, because nothing could be started.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Interpreter(NamedTuple):
    """The program that is started to run a program of this package.

    Attributes:
        path: Path of the interpreter, or of the application that calls `freeze_support`.
        is_application: Whether it is the application.
    """

    path: str
    is_application: bool = False

    def argv(self, program: str) -> list[str]:
        """Return the command line that starts `program`.

        Args:
            program: Path of the launcher, or of the folder of the worker.

        Raises:
            NoPython: Its files are not where an interpreter, or this process, could read them.
        """
        is_launcher = program.endswith(".py")
        if self.is_application:
            return [self.path, APPLICATION, "launcher" if is_launcher else "worker"]
        if not _is_there(program):
            if not isinstance(getattr(aiocmdpool.standalone, "__loader__", None), zipimport.zipimporter):
                raise NoPython(
                    f"the files of aiocmdpool are not on disk ({program}); in a frozen application, call "
                    "aiocmdpool.freeze_support() first of all, and do not set another Python"
                )
            if is_launcher:
                return [self.path, *_options(), "-c", _FROM_ZIP.format(os.path.dirname(_FOLDER))]
        script = os.path.join(program, "__main__.py")
        return [self.path, *_options(), script if os.path.exists(script) else program]


def _is_there(program: str) -> bool:
    try:
        os.stat(program)
    except PermissionError:
        raise NoPython(
            f"this process, of user {os.geteuid()}, may not read the files of aiocmdpool ({program}): permission "
            "denied; let that user read that folder, and search all above it"
        ) from None
    except OSError:
        return False
    return True


def _options() -> list[str]:
    """Return the options of Python for the programs of this package."""
    options = ["-I", "-S"]
    if sys.dont_write_bytecode or resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        options.append("-B")  # under a limit on file sizes, CPython leaves truncated bytecode files behind
    return options


_found: "dict[tuple[object, ...], Interpreter | NoPython]" = {}
_lock = threading.Lock()
_is_prepared = False  # `freeze_support` was called


def known(python: str | None = None) -> Interpreter | NoPython | None:
    """Return the interpreter, or why there is none; `None` if `find` would have to try one first. Does not block.

    Args:
        python: The configured path; `None` to use the environment or this process.
    """
    key = _key(python)
    answer = _found.get(key)
    if answer is None and (answer := _obvious(*key[:2])) is not None:
        _found[key] = answer
    return answer


def find(python: str | None = None) -> Interpreter:
    """Return the interpreter, after trying it if that has not been done. Blocks for `probe.PROBE_FOR` seconds at most.

    Raises:
        NoPython: There is no usable interpreter.
        OSError: It could not be tried, for a reason that may pass.
    """
    answer = known(python)
    if answer is None:
        with _lock:
            answer = known(python) or _tried(python)
            if not (isinstance(answer, NoPython) and answer.may_pass):
                _found[_key(python)] = answer
    if isinstance(answer, NoPython):
        raise NoPython(str(answer))
    return answer


def find_soon(python: str | None, tried: Callable[[], None]) -> bool:
    """Try the interpreter in a thread, which then calls `tried`; return `False` if there is no thread for it."""

    def try_it() -> None:
        with contextlib.suppress(NoPython, OSError):  # the caller that needs the interpreter gets the error again
            find(python)
        tried()

    try:
        threading.Thread(target=try_it, name="aiocmdpool-python", daemon=True).start()
    except RuntimeError:  # no more threads in this process
        return False
    return True


def _key(python: str | None) -> tuple[str | None, str | None, object, object, object]:
    return python, os.environ.get(SETTING), sys.executable, getattr(sys, "frozen", False), _is_prepared


def _obvious(python: str | None, setting: str | None) -> Interpreter | NoPython | None:
    """Return the answer that needs no trying; `None` if there is none."""
    if NESTED in os.environ:
        return NoPython(
            "this process was itself started by aiocmdpool as a Python, and is none: in a frozen application, call "
            f"aiocmdpool.freeze_support() first of all; otherwise, {CURE}"
        )
    if python or setting:
        return None
    if getattr(sys, "frozen", False):
        if _is_prepared:
            return Interpreter(sys.executable, is_application=True)
        return NoPython(
            f"this application is frozen, and its executable ({sys.executable}) no Python: call "
            f"aiocmdpool.freeze_support() first of all, or {CURE}"
        )
    if sys.executable and not _is_embedded() and os.path.realpath(sys.executable) == _own_program():
        return Interpreter(sys.executable)
    return None


def _own_program() -> str:
    """Return the path of the program that this process runs; empty if it cannot be read."""
    try:
        return os.readlink("/proc/self/exe")
    except OSError:
        return ""


def _is_embedded() -> bool:
    """Return whether this process runs another program than a Python."""
    name = os.path.basename(_own_program())
    return bool(name) and _PYTHON_NAME.fullmatch(name) is None


def _tried(python: str | None) -> Interpreter | NoPython:
    """Try the candidates in order, and return the first that is an interpreter, or why none is."""
    if python:
        return _probed([python], f"python={python!r}")
    if setting := os.environ.get(SETTING):
        return _probed([setting], f"{SETTING}={setting!r}")
    paths = [sys.executable] if sys.executable else []
    if _is_embedded() or not paths:  # its libraries come from an interpreter, which may be installed as well
        name = "python{}.{}".format(*sys.version_info)
        roots = dict.fromkeys((sys.exec_prefix, sys.base_exec_prefix, sys.prefix, sys.base_prefix))
        paths = [path for root in roots if os.access(path := os.path.join(root, "bin", name), os.X_OK)] + paths
    return _probed(paths, f"sys.executable={sys.executable!r}")


def _probed(paths: list[str], what: str) -> Interpreter | NoPython:
    why, may_pass = "there is nothing to start", False
    for path in paths:
        path = os.path.abspath(shutil.which(path) or path)  # absolute: the cwd of commands may differ
        try:
            why = what_is_wrong_with(path, nested(os.environ))
        except OSError as error:
            if error.errno in PASSING:
                raise
            why, may_pass = f"{path}: {error.strerror}", True
        if not why:
            return Interpreter(path)
    return NoPython(f"{what} is no Python that could be started ({why}); {CURE}", may_pass)


def nested(environment: "dict[str, str] | os._Environ[str]") -> dict[str, str]:
    """Return a copy of `environment` with the variable that tells an application not to start more."""
    return {**environment, NESTED: "1"}


def freeze_support() -> None:
    """Let a frozen application (PyInstaller, cx_Freeze) be started as a worker; call it first in its main module.

    In a process that was started as a worker, it does not return. Otherwise it only records that the application may be
    started so; without effect where nothing is frozen.

    Example:
        >>> if __name__ == "__main__":
        ...     aiocmdpool.freeze_support()
        ...     main()
    """
    global _is_prepared
    if NESTED in os.environ and sys.argv[1:2] == [APPLICATION]:
        _, _, role, *rest = sys.argv
        sys.argv[1:] = rest
        _become(role)
    _is_prepared = bool(getattr(sys, "frozen", False))


def _become(role: str) -> None:
    """Run as the launcher or as a worker, and exit after that."""
    if role == "launcher":
        from aiocmdpool.standalone.kernel.launcher import main as launcher

        launcher()
    else:
        from aiocmdpool.standalone.worker.main import main as worker

        worker()
    sys.exit(0)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)
