"""What some behaviours need beside their program: a file system that does not answer, a program set-user-ID root.

The suite sets it up once (`scenery`) and tells everybody where it is in the environment; where this machine does not
have what that takes, the behaviours are not available.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from aiocmdpool.commands.command import CommandConfig

MOUNT, UNKILLABLE = "AIOCMDPOOL_TORTURE_MOUNT", "AIOCMDPOOL_TORTURE_UNKILLABLE"
SILENCE = 8.0  # seconds without an answer: longer than a worker may be silent, and not for ever
UNKILLABLE_SECONDS = 15  # longer than anybody waits for a program that does not die
PROGRAMS = Path(__file__).resolve().parent / "programs"


@contextlib.contextmanager
def scenery(*, unprivileged: bool) -> Iterator[None]:
    """Set up what this machine can offer, and take it down again.

    Args:
        unprivileged: Whether hosts run as an ordinary user: only such a one may not signal everybody.
    """
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.chmod(folder, 0o755)
            if unprivileged and shutil.which("cc"):
                stack.enter_context(_told(UNKILLABLE, _compile_unkillable(folder)))
            if importlib.util.find_spec("fuse") and os.path.exists("/dev/fuse"):
                stack.enter_context(_told(MOUNT, stack.enter_context(_silent_mount(folder))))
        yield


@contextlib.contextmanager
def _told(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _compile_unkillable(folder: str) -> str:
    program = os.path.join(folder, "unkillable")
    seconds = f"-DUNKILLABLE_SECONDS={UNKILLABLE_SECONDS}"
    subprocess.run(["cc", seconds, "-o", program, str(PROGRAMS / "unkillable.c")], check=True)
    os.chmod(program, 0o4755)
    return program


@contextlib.contextmanager
def _silent_mount(folder: str) -> Iterator[str]:
    point = os.path.join(folder, "mount")
    os.mkdir(point)
    os.symlink(f"{point}/silent", os.path.join(folder, "link"))
    server = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "silent_mount.py"), point, str(SILENCE)], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline() != b"mounted\n":
            raise RuntimeError("the silent file system could not be mounted: is there libfuse2 (Debian: fuse)?")
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=False, stderr=subprocess.DEVNULL)
        server.kill()  # whoever waits for an answer gets ENOTCONN
        server.communicate()


def _as_path_entry(command: CommandConfig, silent: str) -> CommandConfig:
    return command.with_options(
        program=os.path.basename(command.program), env={**command.env, "PATH": f"{silent}:{os.environ['PATH']}"}
    )


ON_THE_MOUNT: dict[str, Callable[[CommandConfig, str], CommandConfig]] = {
    "cwd": lambda command, silent: command.with_cwd(silent),
    "link": lambda command, silent: command.with_cwd(os.path.join(os.path.dirname(os.path.dirname(silent)), "link")),
    "program": lambda command, silent: command.with_options(program=f"{silent}/file"),
    "path": _as_path_entry,
    "stdin": lambda command, silent: command.with_stdin(Path(silent, "file")),
    "stdout": lambda command, silent: command.with_options(stdout=Path(silent, "file")),
}


def on_the_mount(command: CommandConfig, part: str) -> CommandConfig:
    """Put a part of a command on the file system that does not answer."""
    return ON_THE_MOUNT[part](command, os.path.join(os.environ[MOUNT], "silent"))
