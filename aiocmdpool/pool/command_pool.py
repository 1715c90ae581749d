"""`CommandPool`: a bounded queue in front of an executor.

    push_task ── queue ── permit ── executor.execute ── handle

`concurrency` runner coroutines take tasks off the queue; each owns the run of its task from the moment it starts until
it is settled. Nothing polls: runners sleep in `get`, pushers in `wait_for_room`, callers in their handles.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal, Self, overload

from aiocmdpool.backends.config import ExecutionConfig
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError, ExecuteError
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.live.controlled import WholeRun, check_controlled
from aiocmdpool.live.process import LiveProcess, open_process
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.live.wiring import ALL
from aiocmdpool.observability.events import EventHook
from aiocmdpool.observability.observer import PoolObserver
from aiocmdpool.pool.lifecycle import PoolLife
from aiocmdpool.pool.live_tasks import QueuedRuns
from aiocmdpool.pool.mapping import map_commands
from aiocmdpool.pool.priority_queue import TaskQueue
from aiocmdpool.pool.runners import PoolTasks
from aiocmdpool.pool.view import PoolView
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.status import TaskStatusTracker


class CommandPool(PoolView):
    """Runs commands with bounded concurrency from a bounded queue.

    A pool is an executor: `execute` pushes a command and awaits it. Tasks may be pushed before `start_executor`; they
    wait. Leaving `async with` normally drains the pool; leaving it by an exception ends everything at once.

    Args:
        config: How to execute, and how many at once.
        executor: Anything with `async execute(command)`, instead of the backend that `config` names. The pool uses it
            and does not close it. Whatever it raises is the outcome of the task; one that goes on although its task was
            cancelled is given up after `grace`, `leftover_grace` and six seconds.
        max_size: How many tasks the queue holds; `None` for no bound.
        permits: A semaphore to share among several pools, or with other code: one permit is held for each command
            that runs. `None`: one of its own, with `config.concurrency` permits.
        history: How many finished tasks `tracker` remembers.
        hooks: Called with every event of every task; see `aiocmdpool.observability.events`.

    Concurrency: belongs to the loop on which it is first used; on another one, its methods raise an `ExecuteError` that
    says so. They are not for other threads. When that loop ends before the pool is stopped, every task is settled.

    Example:
        >>> async with CommandPool(ExecutionConfig(concurrency_limit=8), max_size=1000) as pool:
        ...     handle = await pool.push_task(CommandConfig("convert", ["in.png", "out.jpg"], timeout=30))
        ...     result = await handle
    """

    _queue: TaskQueue

    def __init__(
        self,
        config: ExecutionConfig | None = None,
        *,
        executor: CommandExecutor | None = None,
        max_size: int | None = 1000,
        permits: asyncio.Semaphore | None = None,
        history: int = 1000,
        hooks: Iterable[EventHook] = (),
    ) -> None:
        self.config = validate.instance_of(ExecutionConfig)("config", config or ExecutionConfig())
        if executor is not None and not isinstance(executor, CommandExecutor):
            raise ConfigError(f"executor: {validate.shown(executor)} has no execute(command)", field="executor")
        validate.whole_number(1, optional=True)("max_size", max_size)
        self.tracker = TaskStatusTracker(validate.whole_number(0)("history", history))
        self._queue = TaskQueue(max_size)
        if permits is None:
            permits = asyncio.Semaphore(self.config.concurrency)
        validate.instance_of(asyncio.Semaphore)("permits", permits)
        self._observer = PoolObserver(hooks)
        self._tasks = PoolTasks(self._queue, permits, self.tracker, self._observer)
        self._tasks.defaults = self.config.defaults or None
        self._life = PoolLife(self.config, executor, self._queue, self._tasks)

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
        if self._life.stopped:  # in the turn in which the place was handed over
            self._queue.give_back()
            raise self._life.closed_error(command)
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
        self._life.check_push()
        return [await self.push_task(c, priority=priority, queue_timeout=queue_timeout) for c in commands]

    def try_push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[TaskHandle]:
        """Add all commands now, or none.

        Raises:
            QueueFull: There is not enough room for all of them; nothing was added.
            PoolClosed: The pool is stopped.
        """
        self._life.check_push()
        batch = list(commands)
        for command in batch:
            self._check_push(command, priority, queue_timeout)
        self._queue.take_room(len(batch))
        return [self._tasks.accept(command, priority, queue_timeout) for command in batch]

    async def execute(
        self,
        command: CommandConfig,
        *,
        priority: int = 0,
        queue_timeout: float | None = None,
        control: RunControl | None = None,
    ) -> CommandResult:
        """Push a command and await it.

        Args:
            command, priority, queue_timeout: As for `push_task`.
            control: Of the run, for live processes and pipelines.

        Cancellation: the command is withdrawn or dead before `CancelledError` leaves.

        Raises:
            ExecuteError: As `CommandExecutor.execute`; `TaskCancelled` if the pool was stopped meanwhile.
        """
        self._life.check_started(command)
        if isinstance(control, WholeRun) and self.config.defaults:
            control.take_defaults(self.config.defaults)
        handle = await self.push_task(command, priority=priority, queue_timeout=queue_timeout)
        handle.control = control  # no runner has had a turn since it was put into the queue
        waiting = handle.result_or_cancel()
        del handle  # see `TaskHandle.result`
        return await waiting

    def open(
        self,
        command: CommandConfig,
        *,
        streams: Collection[str] = ALL,
        pty: bool | WindowSize = False,
        wait: bool = True,
        priority: int = 0,
        queue_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[LiveProcess]:
        """Start a program when its turn comes, and talk to it; see `live.process.open_process`.

        It is a task like any other: the block is entered when it has come through the queue and runs; it holds a permit
        until the block is left; `stop` ends it.

        Args:
            command, streams, pty: See there.
            wait: For room in the queue. `False`: `QueueFull` on entering, if there is none.
            priority, queue_timeout: As for `push_task`.

        Raises:
            PoolClosed: The pool is not started, or stopped.
            ExecuteError: Its executor only runs commands to their end; backends have `open`.
        """
        self._life.check_started(command)
        check_controlled(self, command)
        command = self.config.complete(command)  # what its handle shows, and `result` looks at

        async def push(command: CommandConfig) -> TaskHandle:
            if wait:
                return await self.push_task(command, priority=priority, queue_timeout=queue_timeout)
            return self.try_push_task(command, priority=priority, queue_timeout=queue_timeout)

        return open_process(QueuedRuns(push), command, streams=streams, pty=pty)

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
        self._life.check_started()
        limit = validate.whole_number(1, optional=True)("in_flight", in_flight) or 2 * self.config.concurrency
        return map_commands(self.push_task, commands, ordered=ordered, in_flight=limit, return_errors=return_errors)

    # -- the queue --------------------------------------------------------------------------------------------------

    def pop_task(self) -> CommandConfig | None:
        """Take the next command off the queue, to run it elsewhere; `None` if there is none.

        Its task ends as cancelled: the pool will not run it.
        """
        return self._tasks.take()

    def clear(self) -> int:
        """Cancel everything that waits in the queue; returns how many tasks that were.

        The queue is empty at once. Of many tasks, some are settled in later turns of the loop, so that none takes long.
        """
        return self._tasks.clear()

    # -- lifecycle --------------------------------------------------------------------------------------------------

    async def start_executor(self, workers: int | None = None) -> None:
        """Begin to run what is in the queue. Harmless when repeated.

        Args:
            workers: How many tasks are taken off the queue at once. `None`: `config.concurrency`. Repeated with a
                larger number, those that are missing are started.

        Raises:
            PoolClosed: The pool was stopped; a stopped pool does not start again.
        """
        validate.whole_number(1, optional=True)("workers", workers)
        await self._life.start(workers or self.config.concurrency, more=workers is not None)

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # not a limit on the call: past it, the rest is cancelled
        """Take no more tasks, and return when every task is settled and nothing of the pool is left.

        Args:
            drain: Run what is in the queue to its end, or cancel it and end what is running.
            timeout: Seconds the draining may take; what is left then is cancelled. `None`: as long as it takes.

        Cancellation: ends everything at once, and leaves when that is done.
        """
        validate.seconds("timeout", timeout)
        await self._life.stop(drain, timeout)

    async def __aenter__(self) -> Self:
        await self.start_executor()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(drain=kind is None)

    def _check_push(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> None:
        self._life.check_push(command)
        validate.instance_of(CommandConfig)("command", command)
        validate.instance_of(int)("priority", priority)
        validate.seconds("queue_timeout", queue_timeout)
