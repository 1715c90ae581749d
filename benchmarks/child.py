"""Starts a process of this package that measures something, and reads its answer."""

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

TIME_LIMIT = 60.0  # seconds; the slowest measurement, uvloop beside 2 GB, takes less than ten
ROOT = pathlib.Path(__file__).resolve().parent.parent


class MeasurementFailed(Exception):
    """The process did not answer; the message says what it said instead."""


def start(module: str, arguments: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start a module of this package, with pipes on its three streams, as the leader of a group of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def answer(module: str, arguments: Sequence[str] = (), time_limit: float = TIME_LIMIT) -> dict[str, Any]:
    """Run a module of this package and decode the line that it prints.

    Raises:
        MeasurementFailed: It failed, or took too long.
    """
    process = start(module, arguments)
    try:
        stdout, stderr = process.communicate(timeout=time_limit)
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"no answer in {time_limit:g} s") from None
    finally:
        end(process)
    if process.returncode != 0:
        raise MeasurementFailed(last_line(stderr) or f"exit status {process.returncode}")
    decoded: dict[str, Any] = json.loads(stdout)
    return decoded


def end(process: "subprocess.Popen[str]") -> None:
    """Leave nothing of it: its workers follow it, and so does its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def last_line(text: str) -> str:
    """What an error says in the end, without the paths of this machine."""
    lines = text.strip().splitlines()
    return lines[-1].replace(str(ROOT), ".").replace(str(pathlib.Path.home()), "~")[:300] if lines else ""
