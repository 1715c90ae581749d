"""`CommandPool`: a bounded queue in front of an executor.

    push_task ── queue ── permit ── executor.execute ── handle

`concurrency` runner coroutines take tasks off the queue; each owns the run of its task from the moment it starts until
it is settled. Nothing polls: runners sleep in `get`, pushers in `wait_for_room`, callers in their handles.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Literal, Self, overload

from aiocmdpool import validate
from aiocmdpool.command import CommandConfig
from aiocmdpool.config import ExecutionBackend, ExecutionConfig, create_backend
from aiocmdpool.errors import ConfigError, ExecuteError, PoolClosed
from aiocmdpool.executor import CommandExecutor
from aiocmdpool.pool_map import map_commands
from aiocmdpool.pool_statistics import PoolStatistics
from aiocmdpool.pool_tasks import PoolTasks
from aiocmdpool.result import CommandResult
from aiocmdpool.task_handle import TaskHandle
from aiocmdpool.task_queue import TaskQueue
from aiocmdpool.task_status import TaskStatusTracker
from aiocmdpool.waiting import wait_through


class CommandPool:
    """Runs commands with bounded concurrency from a bounded queue.

    A pool is an executor: `execute` pushes a command and awaits it. Tasks may be pushed before `start_executor`; they
    wait. Leaving `async with` normally drains the pool; leaving it by an exception ends everything at once.

    Args:
        config: How to execute, and how many at once.
        executor: Anything with `async execute(command)`, instead of the backend that `config` names. The pool uses it
            and does not close it.
        max_size: How many tasks the queue holds; `None` for no bound.
        permits: A semaphore to share among several pools, or with other code: one permit is held for each command
            that runs. `None`: one of its own, with `config.concurrency` permits.
        history: How many finished tasks `tracker` remembers.

    Concurrency: belongs to one loop; `CommandPool` methods are not for other threads.

    Example:
        >>> async with CommandPool(ExecutionConfig(concurrency_limit=8), max_size=1000) as pool:
        ...     handle = await pool.push_task(CommandConfig("convert", ["in.png", "out.jpg"], timeout=30))
        ...     result = await handle
    """

    def __init__(
        self,
        config: ExecutionConfig | None = None,
        *,
        executor: CommandExecutor | None = None,
        max_size: int | None = 1000,
        permits: asyncio.Semaphore | None = None,
        history: int = 1000,
    ) -> None:
        self.config = validate.instance_of(ExecutionConfig)("config", config or ExecutionConfig())
        if executor is not None and not isinstance(executor, CommandExecutor):
            raise ConfigError(f"executor: {executor!r} has no execute(command)", field="executor")
        validate.whole_number(1, optional=True)("max_size", max_size)
        self.tracker = TaskStatusTracker(validate.whole_number(0)("history", history))
        self._executor = executor
        self._backend: ExecutionBackend | None = None
        self._queue = TaskQueue(max_size)
        if permits is None:
            permits = asyncio.Semaphore(self.config.concurrency)
        validate.instance_of(asyncio.Semaphore)("permits", permits)
        self._tasks = PoolTasks(self._queue, permits, self.tracker)
        self._runners: list[asyncio.Task[None]] = []
        self._started = False
        self._stopped: asyncio.Future[None] | None = None

    # -- pushing ----------------------------------------------------------------------------------------------------

    async def push_task(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> TaskHandle:
        """Add a command to the queue, waiting for room.

        Args:
            command: What to run.
            priority: Higher goes first; equal ones in the order of their pushes.
            queue_timeout: Seconds it may wait in the queue. Past that it never runs and ends with `CommandTimeout`.
                Apart from the command's own `timeout`, which counts from its start.

        Raises:
            PoolClosed: The pool is stopped, or was stopped while this waited.
        """
        self._check_push(command, priority, queue_timeout)
        await self._queue.wait_for_room()
        if self._stopped is not None:  # in the turn in which the place was handed over
            self._queue.give_back()
            raise self._closed_error(command)
        return self._tasks.accept(command, priority, queue_timeout)

    def try_push_task(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> TaskHandle:
        """Add a command to the queue now.

        Raises:
            QueueFull: There is no room, or others wait for it already.
            PoolClosed: The pool is stopped.
        """
        self._check_push(command, priority, queue_timeout)
        self._queue.take_room()
        return self._tasks.accept(command, priority, queue_timeout)

    async def push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[TaskHandle]:
        """Add commands in order, waiting for room for each. Cancelled in between, it leaves those added so far."""
        self._check_open()
        return [await self.push_task(c, priority=priority, queue_timeout=queue_timeout) for c in commands]

    def try_push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[TaskHandle]:
        """Add all commands now, or none.

        Raises:
            QueueFull: There is not enough room for all of them; nothing was added.
            PoolClosed: The pool is stopped.
        """
        self._check_open()
        batch = list(commands)
        for command in batch:
            self._check_push(command, priority, queue_timeout)
        self._queue.take_room(len(batch))
        return [self._tasks.accept(command, priority, queue_timeout) for command in batch]

    async def execute(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> CommandResult:
        """Push a command and await it.

        Cancellation: the command is withdrawn or dead before `CancelledError` leaves.

        Raises:
            ExecuteError: As `CommandExecutor.execute`; `TaskCancelled` if the pool was stopped meanwhile.
        """
        self._check_started(command)
        handle = await self.push_task(command, priority=priority, queue_timeout=queue_timeout)
        try:
            return await handle
        except asyncio.CancelledError as cancellation:
            handle.cancel()
            await handle.wait_settled()
            raise cancellation from handle.exception()  # which has the output so far

    @overload
    def map(
        self,
        commands: Iterable[CommandConfig] | AsyncIterable[CommandConfig],
        *,
        ordered: bool = True,
        in_flight: int | None = None,
        return_errors: Literal[False] = False,
    ) -> AsyncIterator[CommandResult]: ...

    @overload
    def map(
        self,
        commands: Iterable[CommandConfig] | AsyncIterable[CommandConfig],
        *,
        ordered: bool = True,
        in_flight: int | None = None,
        return_errors: Literal[True],
    ) -> AsyncIterator[CommandResult | ExecuteError]: ...

    def map(
        self,
        commands: Iterable[CommandConfig] | AsyncIterable[CommandConfig],
        *,
        ordered: bool = True,
        in_flight: int | None = None,
        return_errors: bool = False,
    ) -> AsyncIterator[CommandResult | ExecuteError]:
        """Run many commands and iterate over their results.

        Args:
            commands: Taken one by one as there is room, so it may be endless; an async iterable may be slow.
            ordered: Results in the order of the commands, or as they complete.
            in_flight: How many commands may be pushed and not yet yielded. `None`: twice the concurrency.
            return_errors: Yield an `ExecuteError` in place of the result it stands for, instead of raising it.

        Raises:
            ExecuteError: The first one met; what is still in flight is cancelled.

        Ownership: leaving the iteration cancels what is in flight. After a `break`, that happens when the iterator is
        closed: use `contextlib.aclosing` to have it at once.
        """
        self._check_started(None)
        limit = validate.whole_number(1, optional=True)("in_flight", in_flight) or 2 * self.config.concurrency
        return map_commands(self.push_task, commands, ordered=ordered, in_flight=limit, return_errors=return_errors)

    # -- the queue --------------------------------------------------------------------------------------------------

    def pop_task(self) -> CommandConfig | None:
        """Take the next command off the queue, to run it elsewhere; `None` if there is none.

        Its task ends as cancelled: the pool will not run it.
        """
        return self._tasks.take()

    def clear(self) -> int:
        """Cancel everything that waits in the queue; returns how many tasks that were."""
        return self._tasks.clear()

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return True  # an empty pool is still a pool

    @property
    def max_size(self) -> int | None:
        """Bound of the queue."""
        return self._queue.max_size

    def statistics(self) -> PoolStatistics:
        """A snapshot of the counters."""
        return self._tasks.counters.snapshot()

    # -- lifecycle --------------------------------------------------------------------------------------------------

    async def start_executor(self, workers: int | None = None) -> None:
        """Begin to run what is in the queue. Harmless when repeated.

        Args:
            workers: How many tasks are taken off the queue at once. `None`: `config.concurrency`.

        Raises:
            PoolClosed: The pool was stopped; a stopped pool does not start again.
        """
        validate.whole_number(1, optional=True)("workers", workers)
        self._check_open()
        if self._started:
            return
        self._started = True
        if self._executor is None:
            try:
                backend = create_backend(self.config)
                self._executor = await backend.__aenter__()
            except BaseException:
                self._started = False
                raise
            self._backend = backend
            if self._stopped is not None:  # stopped while the backend started
                await backend.aclose()
                raise self._closed_error()
        for number in range(workers or self.config.concurrency):
            runner = asyncio.create_task(self._tasks.run_tasks(self._executor), name=f"aiocmdpool-runner-{number}")
            self._runners.append(runner)

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # not a limit on the call: past it, the rest is cancelled
        """Take no more tasks, and return when every task is settled and nothing of the pool is left.

        Args:
            drain: Run what is in the queue to its end, or cancel it and end what is running.
            timeout: Seconds the draining may take; what is left then is cancelled. `None`: as long as it takes.

        Cancellation: ends everything at once, and leaves when that is done.
        """
        validate.seconds("timeout", timeout)
        if self._stopped is not None:
            await self._stop_too(drain, timeout)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        self._queue.refuse_pushers(self._closed_error)
        settled = self._tasks.settled()
        cancelled = None
        if drain and any(not runner.done() for runner in self._runners):
            cancelled = await wait_through(settled, timeout, on_cancel=self._tasks.cancel_all)
        self._tasks.cancel_all()
        cancelled = await wait_through(settled) or cancelled
        try:
            cancelled = await self._end_runners() or cancelled
        finally:
            self._stopped.set_result(None)
        if cancelled is not None:
            raise cancelled

    async def _stop_too(self, drain: bool, seconds: float | None) -> None:
        """Another call stops the pool already: wait for that, or hurry it."""
        assert self._stopped is not None
        cancelled = None
        if drain:
            cancelled = await wait_through(self._stopped, seconds, on_cancel=self._tasks.cancel_all)
        if not self._stopped.done():
            self._tasks.cancel_all()
            cancelled = await wait_through(self._stopped) or cancelled
        if cancelled is not None:
            raise cancelled

    def is_stopped(self) -> bool:
        """Whether the pool takes no more tasks."""
        return self._stopped is not None

    async def _end_runners(self) -> asyncio.CancelledError | None:
        """End the runners, idle by now, and the backend."""
        for runner in self._runners:
            runner.cancel()
        cancelled = await wait_through(asyncio.gather(*self._runners, return_exceptions=True))
        self._runners.clear()
        if self._backend is not None:
            closing = asyncio.ensure_future(self._backend.aclose())
            cancelled = await wait_through(closing) or cancelled
            closing.result()
        return cancelled

    async def __aenter__(self) -> Self:
        await self.start_executor()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(drain=kind is None)

    def __repr__(self) -> str:
        counts = self._tasks.counters.snapshot()
        state = "stopped" if self._stopped is not None else "running" if self._started else "new"
        return f"<CommandPool {state}, {counts.queued} queued, {counts.running} running, {counts.submitted} submitted>"

    # -- checks -----------------------------------------------------------------------------------------------------

    def _check_push(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> None:
        asyncio.get_running_loop()  # raises now rather than half-way
        self._check_open(command)
        validate.instance_of(CommandConfig)("command", command)
        validate.instance_of(int)("priority", priority)
        validate.seconds("queue_timeout", queue_timeout)

    def _check_open(self, command: CommandConfig | None = None) -> None:
        if self._stopped is not None:
            raise self._closed_error(command)

    def _closed_error(self, command: CommandConfig | None = None) -> PoolClosed:
        return PoolClosed("the pool is stopped and takes no tasks; make a new one", command=command)

    def _check_started(self, command: CommandConfig | None) -> None:
        if not self._started:
            message = "the pool is not started: use 'async with CommandPool()', or await start_executor() first"
            raise PoolClosed(message, command=command)
