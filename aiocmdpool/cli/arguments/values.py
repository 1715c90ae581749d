"""Converters for values of options, with their units; they raise `ArgumentTypeError` with a message."""

import argparse
import math
import re
from collections.abc import Callable

from aiocmdpool.cli.arguments.halt import HaltPolicy, parse_halt
from aiocmdpool.system.cpus import cpu_count

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmg])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|d)", re.IGNORECASE)
_SPAN_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SEPARATORS = {"\\n": b"\n", "\\0": b"\0", "\\t": b"\t", "\\r": b"\r", "\\\\": b"\\"}
MOST_JOBS = 1_000_000  # Linux has at most four million processes (proc_sys_kernel(5), pid_max)


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a converter for whole numbers from `low` to `high`."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            span = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {span}")
        return int(text)

    return convert


def jobs(text: str) -> int:
    """Return a number of jobs: from `8`, `200%` of the CPUs, or `+2`, which is two more than CPUs."""
    cpus = cpu_count()
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?%", text) and float(text[:-1]) > 0:
        return min(MOST_JOBS, max(1, int(cpus * float(text[:-1]) / 100)))
    if re.fullmatch(r"[+-][0-9]+", text):
        return min(MOST_JOBS, max(1, cpus + int(text)))
    if not text.isdecimal() or int(text) < 1:
        hint = (
            "; for as many as there can be, give a large one: -j 10000" if text == "0" else ", nor such as 200% or +2"
        )
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1{hint}")
    return min(MOST_JOBS, int(text))


def seconds(text: str) -> float:
    """Return a number of seconds: from `1.5`, `90s`, `5m`, `2h`, `1d`, `500ms`, `1h30m`."""
    if text and not _SPAN.sub("", text):
        return sum(float(number) * _SPAN_UNITS[unit.lower()] for number, unit in _SPAN.findall(text))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, nor such as 90s, 5m, 1h30m")
    return value


def size(text: str) -> int:
    """Return a number of bytes: from `65536`, `64k`, `10M`, `1MB`, `1GiB`, where a K is 1,024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 65536, 64k, 10M, 1MB, 1G")
    return int(float(match[1]) * _SIZE_UNITS[(match[2] or "").lower()])


def separator(text: str) -> bytes:
    r"""Return the separator: one ASCII character, or the byte that `\n`, `\0` or `\t` stands for."""
    byte = _SEPARATORS.get(text, text.encode(errors="surrogateescape"))
    if len(byte) != 1 or byte > b"\x7f":
        raise argparse.ArgumentTypeError(f"{text!r} is not one ASCII character, nor \\n, \\t, \\0")
    return byte


def placeholder(text: str) -> str:
    """Return a placeholder: any text that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("a placeholder cannot be empty; the usual one is {}")
    return text


def one_input(text: str) -> int:
    """Return 1, the number of inputs for each command; any other value is refused."""
    if text != "1":
        raise argparse.ArgumentTypeError(
            f"{text!r}: each command is given one input; for several in one, type xargs -P JOBS -n {text}"
        )
    return 1


def halt(text: str) -> HaltPolicy:
    """Return the policy for failures that the text describes."""
    try:
        return parse_halt(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
