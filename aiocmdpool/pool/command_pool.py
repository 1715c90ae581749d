"""`CommandPool`: a bounded queue of commands in front of an executor.

    push_task ── queue ── permit ── executor.execute ── handle

`concurrency` runner coroutines take tasks off the queue; each owns the run of its task from its start until it is
settled. Nothing polls: runners wait in `get`, pushers in `wait_for_room`, callers on their handles.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal, Self, overload

from aiocmdpool.backends.config import ExecutionConfig
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.executor import CommandExecutor, checked_executor
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
    """A pool that runs commands with bounded concurrency from a bounded queue.

    A pool is an executor: `execute` pushes a command and awaits it. Tasks may be pushed before `start_executor`; they
    wait. Leaving `async with` normally drains the pool; leaving it by an exception ends everything at once.

    Args:
        config: The backend to use, and how many commands run at once.
        executor: Any object with `async execute(command)`, instead of the backend that `config` names. The pool uses it
            and does not close it. Whatever it raises is the outcome of the task; one that goes on although its task was
            cancelled is abandoned after `grace`, `leftover_grace` and six seconds.
        max_size: Most tasks that the queue holds; `None` for no limit.
        permits: A semaphore to share among several pools, or with other code: one permit is held for each command
            that runs. `None`: a new one, with `config.concurrency` permits.
        history: Number of finished tasks that `tracker` remembers.
        hooks: Called with every event of every task; see `aiocmdpool.observability.events`.

    Concurrency: belongs to the loop on which it is first used; on another one, its methods raise an `ExecuteError` that
    says so. Other threads must not call them. When that loop ends before the pool is stopped, every task is settled.

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
        self.config = validate.instance_of(ExecutionConfig)("config", ExecutionConfig() if config is None else config)
        if executor is not None:
            checked_executor(executor)
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
        """Add `command` to the queue, waiting for room if it is full.

        Args:
            command: The command to run.
            priority: Higher numbers run first; equal ones in the order of their pushes.
            queue_timeout: Seconds the task may wait in the queue. Past that it never runs and ends with
                `CommandTimeout`. Independent of the command's own `timeout`, which counts from its start.

        Raises:
            PoolClosed: The pool is stopped, or was stopped while this waited.
        """
        self._check_push(command, priority, queue_timeout)
        await self._queue.wait_for_room()
        if self._life.stopped:  # stopped in the same loop iteration in which the place was handed over
            self._queue.give_back()
            raise self._life.closed_error(command)
        return self._tasks.accept(command, priority, queue_timeout)

    def try_push_task(
        self, command: CommandConfig, *, priority: int = 0, queue_timeout: float | None = None
    ) -> TaskHandle:
        """Add `command` to the queue if there is room now.

        Raises:
            QueueFull: There is no room, or other pushers wait for it already.
            PoolClosed: The pool is stopped.
        """
        self._check_push(command, priority, queue_timeout)
        self._queue.take_room()
        return self._tasks.accept(command, priority, queue_timeout)

    async def push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[TaskHandle]:
        """Add `commands` in order, waiting for room for each. If cancelled, those added so far stay in the queue."""
        self._life.check_push()
        return [await self.push_task(c, priority=priority, queue_timeout=queue_timeout) for c in commands]

    def try_push_tasks(
        self, commands: Iterable[CommandConfig], *, priority: int = 0, queue_timeout: float | None = None
    ) -> list[TaskHandle]:
        """Add all of `commands` to the queue now, or none of them.

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
        """Push `command` to the queue and await its result.

        Args:
            command, priority, queue_timeout: As for `push_task`.
            control: Access to the run, for live processes and pipelines.

        Cancellation: the command is withdrawn or dead before `CancelledError` is raised.

        Raises:
            ExecuteError: As `CommandExecutor.execute`; `TaskCancelled` if the pool was stopped meanwhile.
        """
        self._life.check_started(command)
        if isinstance(control, WholeRun) and self.config.defaults:
            control.take_defaults(self.config.defaults)
        handle = await self.push_task(command, priority=priority, queue_timeout=queue_timeout)
        handle.control = control  # early enough: no runner has run since the push
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
        """Start a program when its task's turn comes, and talk to it; see `live.process.open_process`.

        It is a task like any other: the block is entered when it has come through the queue and runs; it holds a permit
        until the block is left; `stop` ends it.

        Args:
            command, streams, pty: As for `open_process`.
            wait: Whether to wait for room in the queue; `False` raises `QueueFull` on entering if there is none.

        Raises:
            PoolClosed: The pool is not started, or stopped.
            ExecuteError: The executor has no `open`: it can only run commands to their end.
        """
        self._life.check_started(command)
        check_controlled(self, command)
        command = self.config.complete(command)  # in full, because the handle shows it and `result` looks at it

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
            commands: Taken one by one when there is room, so it may be endless; an async iterable may be slow.
            ordered: Whether results come in the order of the commands, or as they complete.
            in_flight: Most commands that are pushed and not yet yielded. `None`: twice the concurrency.
            return_errors: Whether to yield an `ExecuteError` in place of the result instead of raising it.

        Raises:
            ExecuteError: The first error met; commands still in flight are cancelled.

        Ownership: leaving the iteration cancels what is in flight. After a `break`, that happens when the iterator is
        closed: use `contextlib.aclosing` to have it at once.
        """
        self._life.check_started()
        limit = validate.whole_number(1, optional=True)("in_flight", in_flight) or 2 * self.config.concurrency
        return map_commands(self.push_task, commands, ordered=ordered, in_flight=limit, return_errors=return_errors)

    # -- the queue --------------------------------------------------------------------------------------------------

    def pop_task(self) -> CommandConfig | None:
        """Take the next command off the queue, to run it elsewhere, and return it; `None` if the queue is empty.

        Its task ends as cancelled: the pool will not run it.
        """
        return self._tasks.take()

    def clear(self) -> int:
        """Cancel every task in the queue, and return how many there were.

        The queue is empty at once. Many tasks are settled over several iterations of the loop, to keep each short.
        """
        return self._tasks.clear()

    # -- lifecycle --------------------------------------------------------------------------------------------------

    async def start_executor(self, workers: int | None = None) -> None:
        """Start to run the tasks in the queue. Harmless when repeated.

        Args:
            workers: Number of runners, that is, of tasks off the queue at once. `None`: `config.concurrency`. If
                repeated with a larger number, the missing ones are started.

        Raises:
            PoolClosed: The pool was stopped; a stopped pool does not start again.
        """
        validate.whole_number(1, optional=True)("workers", workers)
        await self._life.start(workers or self.config.concurrency, more=workers is not None)

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # not a limit on the call: past it, the rest is cancelled
        """Accept no more tasks, and return when every task is settled and no process of the pool is left.

        Args:
            drain: Whether to run all tasks to their end; `False` cancels queued and running ones.
            timeout: Seconds the draining may take; tasks left after that are cancelled. `None`: no limit.

        Cancellation: everything is ended at once, and `CancelledError` is raised when that is done.
        """
        validate.seconds("timeout", timeout)
        await self._life.stop(drain, timeout)

    async def __aenter__(self) -> Self:
        await self.start_executor()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._life.is_inherited:  # a forked child that unwinds leaves the pool of its parent alone
            await self.stop(drain=kind is None)

    def _check_push(self, command: CommandConfig, priority: int, queue_timeout: float | None) -> None:
        self._life.check_push(command)
        validate.instance_of(CommandConfig)("command", command)
        validate.instance_of(int)("priority", priority)
        validate.seconds("queue_timeout", queue_timeout)
