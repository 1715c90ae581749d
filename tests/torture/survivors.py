"""Finds what is left of runs by their marks, whoever its parents are, and ends it."""

import contextlib
import os
import re
import secrets
import signal
import time
from collections.abc import Container

NUMBER_DIGITS = 6
_TOKEN_DIGITS = 10
_LOOKS_THAT_PROVE = 3  # that find nothing, one after the other
_KILLING = 10.0  # seconds at most
_EXEC_LOOKS = 20  # at a process that seems to have no arguments
_KTHREADD = b"2"  # the parent of the threads of the kernel
_LISTINGS = 5  # of /proc in one look: what forks while it is looked at shows up in the next one


class Marks:
    """The marks of one session: decimal, so that they can be part of the duration of a `sleep`."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token or str(10 ** (_TOKEN_DIGITS - 1) * 7 + secrets.randbelow(10 ** (_TOKEN_DIGITS - 1)))
        self._pattern = re.compile(rb"%b(\d{%d})" % (self.token.encode(), NUMBER_DIGITS))

    def of(self, number: int) -> str:
        """The mark of a run."""
        return f"{self.token}{number:0{NUMBER_DIGITS}}"

    def alive(self, environments: bool = False) -> dict[int, list[int]]:
        """The living processes that bear marks: their pids by the number of the run.

        Args:
            environments: Look for those as well that show the mark only there; that takes twice the time.
        """
        found: dict[int, list[int]] = {}
        seen: set[str] = {str(os.getpid())}
        for _ in range(_LISTINGS):
            fresh = [entry for entry in os.listdir("/proc") if entry.isdigit() and entry not in seen]
            for entry in reversed(fresh):  # the youngest first: the others have time
                number = self._number(entry, environments)
                if number is not None:
                    found.setdefault(number, []).append(int(entry))
            if not fresh:
                break
            seen.update(fresh)
        return found

    def _number(self, entry: str, environments: bool) -> int | None:
        words = _arguments(entry)
        match = self._pattern.search(words)
        if match is None and words and environments:
            match = self._pattern.search(_read(f"/proc/{entry}/environ"))
        return int(match[1]) if match else None

    def kill(self, numbers: Container[int] | None = None) -> None:
        """End whatever bears a mark, or the marks of these runs.

        What forks while it is killed is looked for again: one look that finds nothing proves nothing.
        """
        deadline, looks = time.monotonic() + _KILLING, 0
        while looks < _LOOKS_THAT_PROVE and time.monotonic() < deadline:
            looks += 1
            for number, pids in self.alive(environments=True).items():
                if numbers is None or number in numbers:
                    looks = 0
                    for pid in reversed(pids):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)


def bearers(folder: str) -> list[int]:
    """Return the living processes that have a folder for their temporary files: a host, and all it has started."""
    mine = f"TMPDIR={folder}\0".encode()
    return [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and mine in _read(f"/proc/{entry}/environ") + b"\0" and _arguments(entry)
    ]


def kill_bearers(folder: str) -> None:
    """End them."""
    deadline = time.monotonic() + _KILLING
    while (pids := bearers(folder)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:  # gone, or not ours to look at
        return b""


def _arguments(entry: str) -> bytes:
    """The arguments of a living process; empty for zombies and what has none.

    They are empty in the middle of an exec as well, from the new memory of the process to its being filled in
    (create_elf_tables in the kernel's fs/binfmt_elf.c), and where the main thread has exited: that one looks like a
    zombie, and only the other threads tell.
    """
    for _ in range(_EXEC_LOOKS):
        words = _read(f"/proc/{entry}/cmdline")
        if words:
            return words
        state, parent = [*_read(f"/proc/{entry}/stat").rpartition(b")")[2].split(), b"Z", b"0"][:2]
        if state in (b"Z", b"X"):
            return _of_other_threads(entry)
        if parent in (b"0", _KTHREADD):
            return b""
        time.sleep(0.0005)
    return b""


def _of_other_threads(entry: str) -> bytes:
    with contextlib.suppress(OSError):
        threads = [thread for thread in os.listdir(f"/proc/{entry}/task") if thread != entry]
        return b"".join(_read(f"/proc/{entry}/task/{thread}/cmdline") for thread in threads)
    return b""


def describe(pid: int) -> str:
    """A process for people."""
    status = dict(line.split(":\t", 1) for line in _read(f"/proc/{pid}/status").decode().splitlines() if ":\t" in line)
    words = _arguments(str(pid)).replace(b"\0", b" ").decode(errors="replace").strip()
    return f"{pid} (parent {status.get('PPid')}, {status.get('State')}): {words}"
