"""`map_commands`: the implementation of `CommandPool.map`, as a plain iterator.

The thread that asks for results also reads the source, when it asks: an iterable may belong to a thread (a database
cursor), may block, and may use this package itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.loops.gate import Gate
from aiocmdpool.loops.interruptions import wait_or_end
from aiocmdpool.sync.calls import Call
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.sync.process_wide import stay_if_exiting, stay_or_leave_at_exit

Launch = Callable[[CommandConfig, Callable[[Call[CommandResult]], object] | None], Call[CommandResult]]


def map_commands(
    launch: Launch, commands: Iterable[CommandConfig], *, ordered: bool, in_flight: int, return_errors: bool
) -> Generator[CommandResult | ExecuteError, None, None]:
    """Run many commands and iterate over their results, as described for `CommandPool.map`.

    Args:
        launch: Makes the call that runs a command; its second argument is called when that is done.
    """
    flight = _Flight(launch, iter(commands), ordered, in_flight)
    try:
        while (call := flight.next_done()) is not None:
            try:
                outcome: CommandResult | ExecuteError = call.outcome()
            except PoolClosed:
                raise
            except ExecuteError as error:
                if not return_errors:
                    raise
                outcome = error
            yield outcome
    finally:
        flight.abandon()


class _Flight:
    """The calls that are launched and not yet yielded."""

    def __init__(self, launch: Launch, source: Iterator[CommandConfig], ordered: bool, in_flight: int) -> None:
        self._launch = launch
        self._source = source
        self._in_flight = in_flight
        self._exhausted = False
        self._calls: deque[Call[CommandResult]] = deque()
        self._ordered = ordered
        self._arrivals: deque[Call[CommandResult]] = deque()  # done and not yet yielded, if the order does not matter
        self._news = Gate()

    def next_done(self) -> Call[CommandResult] | None:
        """Wait for the next call that is done and is to be yielded, and return it; `None` when there are no more.

        As long as there are results, one command is taken from the source for each, so that a slow source does not hold
        them back, and a slow consumer does not let the pool run dry.
        """
        check_no_loop("CommandPool")
        while True:
            full = self._exhausted or len(self._calls) >= self._in_flight
            if not full:
                self._launch_next()
            if not self._calls:
                if self._exhausted:
                    return None
            elif full or self._any_done():
                return self._take()

    def _launch_next(self) -> None:
        try:
            command = next(self._source)
        except StopIteration:
            self._exhausted = True
            return
        call = self._launch(command, None if self._ordered else self._arrived)
        self._calls.append(call)
        call.submit()

    def _arrived(self, call: Call[CommandResult]) -> None:
        self._arrivals.append(call)
        self._news.open()

    def _any_done(self) -> bool:
        return self._calls[0].gate.is_open if self._ordered else bool(self._arrivals)

    def _take(self) -> Call[CommandResult]:
        if self._ordered:
            _wait(self._calls[0].gate, self._end_all)
            return self._calls.popleft()
        self._news = news = Gate()  # before the check for arrivals: a later arrival opens this gate
        if not self._arrivals:
            _wait(news, self._end_all)
        call = self._arrivals.popleft()
        self._calls.remove(call)
        return call

    def abandon(self) -> None:
        """Cancel the calls in flight and wait until they are done; without waiting if a loop runs in this thread."""
        if asyncio._get_running_loop() is None:
            wait_or_end(self._end_all, self._end_all)
        else:
            self._cancel_all()
        self._calls.clear()

    def _end_all(self) -> None:
        self._cancel_all()
        for call in self._calls:
            call.gate.wait()
        stay_if_exiting()

    def _cancel_all(self) -> None:
        for call in self._calls:
            call.cancel()


def _wait(gate: Gate, end: Callable[[], object]) -> None:
    wait_or_end(lambda: gate.wait(None, stay_or_leave_at_exit), end)
