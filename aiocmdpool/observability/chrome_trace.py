"""`ChromeTrace`: writes the timeline of a pool to a file for https://ui.perfetto.dev or chrome://tracing.

    slot 1   ██ command ██  ███ command ███          a row for each command that runs beside others
    slot 2      ███ command ██
    queued   ── command ──                           from push to start

The format is the JSON array of Chrome's trace events: complete events (`X`) for runs, async events (`b`, `e`) for
waits, any number of which may overlap.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring_ascii as _json_text  # the function behind `json.dumps` of a str
from types import TracebackType
from typing import Self

from aiocmdpool.commands.result import EndReason
from aiocmdpool.observability.events import TaskEvent, TaskFinished
from aiocmdpool.observability.trace_file import JsonArrayFile

FLUSH_EVERY = 1.0  # seconds, applied at the first event after them
BATCH = 64  # tasks formatted at once: takes 2/3 of the time of formatting each alone, and 0.3 ms in a row

_Note = tuple[str, int, str, float, float | None, float, int | None, float, EndReason | None]
"""The part of a task that is kept until then; not its result or command, which may hold megabytes."""


class ChromeTrace:
    """A hook that writes the tasks of pools as a Chrome trace. One hook may serve several pools; close it after them.

    Memory is bounded: a buffer, and two numbers for each command that runs at once. Writes happen on the loop, some 64
    KiB at a time. The file is valid JSON from the first moment on, however this process ends.

    Args:
        path: Path of the file, which is replaced. It cannot be a pipe.
        name: Name of this process in the trace.
        on_error: Called with the error of a write, after which no more is written. `None`: the error is raised.

    Raises:
        OSError: The file cannot be opened or written.

    Example:
        >>> with ChromeTrace("trace.json") as trace:
        ...     async with CommandPool(hooks=[trace]) as pool:
        ...         await pool.execute(CommandConfig("make", ["all"]))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str = "aiocmdpool",
        on_error: Callable[[OSError], object] | None = None,
    ) -> None:
        self.on_error = on_error
        file = JsonArrayFile(path)
        self._file: JsonArrayFile | None = file
        self._pid = os.getpid()
        self._rows = _Rows()
        self._notes: list[_Note] = []
        self._flushed_at = 0.0
        file.append(self._name("process_name", 0, name))

    def __call__(self, event: TaskEvent) -> None:
        """Record a finished task; other events are ignored, because a finished one has all data of the task."""
        if not isinstance(event, TaskFinished) or self._file is None:
            return
        result = event.result
        self._notes.append(
            (
                event.command.display(),
                event.task_id,
                event.status.value,
                event.pushed_at,
                event.started_at,
                event.time,
                result.returncode if result is not None else None,
                result.duration if result is not None else 0.0,
                event.end_reason,
            )
        )
        long_ago = event.time - self._flushed_at > FLUSH_EVERY
        if (long_ago or len(self._notes) >= BATCH) and (self._format(self._file) or long_ago):
            self._flushed_at = event.time
            self._guard(self._file.flush)

    def close(self) -> None:
        """Write the rest and close the file. Commands that still run are left out. Harmless when repeated.

        Raises:
            OSError: The rest could not be written.
        """
        file, self._file = self._file, None
        if file is not None:
            self._format(file)
            self._guard(file.close)

    # -- events -----------------------------------------------------------------------------------------------------

    def _format(self, file: JsonArrayFile) -> bool:
        """Format all recorded tasks as trace events; return whether a flush is due."""
        is_time = False
        for note in self._notes:
            for element in self._elements(*note):
                is_time = file.append(element)
        self._notes.clear()
        return is_time

    def _elements(
        self,
        shown: str,
        task: int,
        status: str,
        pushed_at: float,
        started_at: float | None,
        ended_at: float,
        returncode: int | None,
        duration: float,
        reason: EndReason | None,
    ) -> Iterator[str]:
        name, pid, pushed, ended = _json_text(shown), self._pid, _microseconds(pushed_at), _microseconds(ended_at)
        started = ended if started_at is None else _microseconds(started_at)
        if started_at is not None:
            row, is_new = self._rows.place(started, ended)
            if is_new:
                yield self._name("thread_name", row, f"slot {row}")
            returned = f',"returncode":{returncode},"run_ms":{duration * 1e3:.3f}' if returncode is not None else ""
            why = f',"end_reason":"{reason.value}"' if reason is not None else ""
            yield (
                f'{{"ph":"X","cat":"run","name":{name},"pid":{pid},"tid":{row},"ts":{started},"dur":{ended - started},'
                f'"args":{{"task":{task},"status":"{status}"{returned}{why}}}}}'
            )
        wait = f'"cat":"queued","name":{name},"id":{task},"pid":{pid},"tid":0,"ts"'
        yield f'{{"ph":"b",{wait}:{pushed},"args":{{"task":{task},"status":"{status}"}}}}'
        yield f'{{"ph":"e",{wait}:{started}}}'

    def _name(self, what: str, row: int, name: str) -> str:
        text = _json_text(name)
        return f'{{"ph":"M","name":"{what}","pid":{self._pid},"tid":{row},"args":{{"name":{text}}}}}'

    def _guard(self, write: Callable[[], None]) -> None:
        """Call `write`; if it fails, close the file and report the error."""
        try:
            write()
        except OSError as error:
            file, self._file = self._file, None
            if file is not None:
                file.close()
            if self.on_error is None:
                raise
            self.on_error(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Rows:
    """Assigns a row to each run, in the order of their ends: runs that overlap never share one.

    Of the rows that are free at its start, a run gets the one that became free last. There are never more rows than
    runs that overlap at some moment (the known greedy algorithm for intervals sorted by their ends).
    """

    def __init__(self) -> None:
        self._ends: list[int] = []  # end of the last run in each row; ascending, because each new one is the latest
        self._rows: list[int] = []

    def place(self, start: int, end: int) -> tuple[int, bool]:
        """Return the row of a run, and whether the row is new."""
        free = bisect_right(self._ends, start)
        row = len(self._rows) + 1
        if free:
            del self._ends[free - 1]
            row = self._rows.pop(free - 1)
        self._ends.append(end)
        self._rows.append(row)
        return row, not free


def _microseconds(seconds: float) -> int:
    # Truncated: order is preserved, and no run ends after the start of the next one in its row.
    return int(seconds * 1e6)
