"""`CommandPoolSeg`: a pool that any thread feeds, without a lock and without waiting for the loop.

    any thread: push_task ── SegQueue ══ loop: runner ── permit ── executor.execute ── handle ── any thread

Behind the queue it is a `CommandPool`: the same tasks, runners and lifecycle.
"""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiocmdpool.backends.config import ExecutionConfig
from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.executor import CommandExecutor, checked_executor
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.observability.events import EventHook
from aiocmdpool.observability.observer import PoolObserver
from aiocmdpool.pool.lifecycle import PoolLife
from aiocmdpool.pool.loop_bound import LoopBound
from aiocmdpool.pool.runners import PoolTasks
from aiocmdpool.pool.seg_queue import SegQueue
from aiocmdpool.pool.view import PoolView
from aiocmdpool.tasks.status import TaskStatusTracker
from aiocmdpool.tasks.thread_handle import ThreadTaskHandle


class CommandPoolSeg(PoolView, LoopBound):
    """A pool that runs commands with bounded concurrency from a queue that any thread may push to.

    Its name comes from the segmented queue of the design that this project carries on; here two deques do that.

    It may be made anywhere, and belongs to the loop that starts it. Tasks may be pushed before; they wait. They run in
    the order of their pushes: priorities and queue deadlines would need a sorted queue.

    Args:
        config: The backend to use, and how many commands run at once.
        executor: Any object with `async execute(command)`, instead of the backend that `config` names. The pool uses it
            and does not close it.
        max_size: Most tasks that the queue holds; `None` for no limit. Not exact while threads race: each thread that
            pushes in the same moment as another may exceed it by its own task or batch, and by no more.
        permits: A semaphore to share among pools of the same loop. `None`: a new one, with `config.concurrency`
            permits.
        history: Number of finished tasks `tracker` remembers. It records a task from when that leaves the queue on; the
            handle shows its status at any time.
        hooks: Called on the loop with every event of every task; the queued event comes when a task leaves the queue.

    Concurrency: `push_task`, `push_tasks`, `len`, `statistics`, `is_…` and all of a handle are for any thread;
    `execute` is for any loop; `start_executor` and `stop` are for the loop that the pool belongs to, as `pop_task` and
    `clear` are from the start on.

    Example:
        >>> async with CommandPoolSeg(ExecutionConfig(concurrency_limit=8)) as pool:
        ...     await asyncio.to_thread(serve, pool)  # the threads do pool.push_task(command).result(timeout=60)
    """

    _queue: SegQueue

    def __init__(
        self,
        config: ExecutionConfig | None = None,
        *,
        executor: CommandExecutor | None = None,
        max_size: int | None = None,
        permits: asyncio.Semaphore | None = None,
        history: int = 1000,
        hooks: Iterable[EventHook] = (),
    ) -> None:
        self.config = validate.instance_of(ExecutionConfig)("config", ExecutionConfig() if config is None else config)
        if executor is not None:
            checked_executor(executor)
        if permits is None:
            permits = asyncio.Semaphore(self.config.concurrency)
        validate.instance_of(asyncio.Semaphore)("permits", permits)
        self.tracker = TaskStatusTracker(validate.whole_number(0)("history", history))
        self._queue = SegQueue(validate.whole_number(1, optional=True)("max_size", max_size))
        self._observer = PoolObserver(hooks)
        self._tasks = PoolTasks(self._queue, permits, self.tracker, self._observer)
        self._queue.on_first_seen = self._tasks.first_seen
        self._defaults = self.config.defaults or None
        self._life = PoolLife(self.config, executor, self._queue, self._tasks, self._loop_ended)
        self._belong_to_no_loop()

    # -- any thread -------------------------------------------------------------------------------------------------

    def push_task(self, command: CommandConfig) -> ThreadTaskHandle:
        """Add `command` to the queue. Takes no lock and waits for nothing.

        A push that races with a stop may be accepted: its task is run, or settled as cancelled, never lost.

        Raises:
            QueueFull: There is no room.
            PoolClosed: The pool is stopped, or its loop is closed.
            ExecuteError: The pool belongs to the parent of this process.
        """
        queue = self._queue
        if queue.refusal is not None or not isinstance(command, CommandConfig):
            self._refuse(command)
        loop_thread = self._tasks.loop_thread
        if loop_thread is not None and loop_thread.mark() is None:
            self._life.check_moving(command)
        if queue.max_size is not None:
            queue.check_room()
        if self._defaults is not None:
            command = command.with_defaults(self._defaults)
        handle = self._handle(command)
        if self._observer.has_hooks:
            self._observer.pushed(handle)
        queue.put(handle)
        if queue.wake_token or queue.refusal is not None:  # both read after the append: see `SegQueue`, and `_tell`
            self._tell()
        return handle

    def push_tasks(self, commands: Iterable[CommandConfig]) -> list[ThreadTaskHandle]:
        """Add all of `commands` to the queue now, in order, or none of them; otherwise like `push_task`.

        Raises:
            QueueFull: There is not enough room for all of them; nothing was added.
        """
        batch = list(commands)
        self._life.check_moving()
        for command in batch:
            if self._queue.refusal is not None or not isinstance(command, CommandConfig):
                self._refuse(command)
        self._queue.check_room(len(batch))
        handles = [self._handle(self.config.complete(command)) for command in batch]
        if self._observer.has_hooks:
            for handle in handles:
                self._observer.pushed(handle)
        self._queue.put_all(handles)
        self._tell()
        return handles

    def _handle(self, command: CommandConfig) -> ThreadTaskHandle:
        return ThreadTaskHandle(command, self)

    def is_stopped(self) -> bool:
        """Return whether the pool takes no more tasks."""
        return self._queue.refusal is not None

    def _refuse(self, command: CommandConfig) -> None:
        if self._queue.refusal is None:
            validate.instance_of(CommandConfig)("command", command)
            return
        error = self._queue.refusal()
        error.command = command
        raise error

    def _tell(self) -> None:
        """Make sure that the loop will look at what has been put into the queue."""
        queue = self._queue
        if queue.take_wake_token() and not self.call_on_loop(queue.wake_runners):
            self._loop_ended()
        # The end of the pool sets the refusal before it empties the queue: a push that reads it after its append either
        # sees the refusal, or its task is found there.
        if queue.refusal is not None and not self.call_on_loop(self._sweep):
            self._loop_ended()

    # -- the loop ---------------------------------------------------------------------------------------------------

    async def execute(self, command: CommandConfig) -> CommandResult:
        """Push `command` to the queue and await its result.

        Cancellation: the command is withdrawn or dead before `CancelledError` is raised.

        Raises:
            QueueFull: There is no room.
            ExecuteError: As `CommandExecutor.execute`; `TaskCancelled` if the pool was stopped meanwhile.
        """
        self._life.check_started(command)
        return await self.push_task(command).result_or_cancel()

    def pop_task(self) -> CommandConfig | None:
        """Take the next command off the queue, to run it elsewhere, and return it; `None` if the queue is empty.

        Its task ends as cancelled: the pool will not run it.

        Raises:
            ExecuteError: The pool is started, and this is not its loop.
        """
        return self._in_order(self._tasks.take)

    def clear(self) -> int:
        """Cancel every task in the queue, and return how many there were.

        The queue is empty at once. Many tasks are settled over several iterations of the loop, to keep each short.

        Raises:
            ExecuteError: The pool is started, and this is not its loop.
        """
        return self._in_order(self._tasks.clear)

    async def start_executor(self, workers: int | None = None) -> None:
        """Start to run the tasks in the queue, on the running loop. Harmless when repeated.

        Args:
            workers: Number of runners, that is, of tasks off the queue at once. `None`: `config.concurrency`.

        Raises:
            PoolClosed: The pool was stopped; a stopped pool does not start again.
            ExecuteError: The pool belongs to another loop.
        """
        validate.whole_number(1, optional=True)("workers", workers)
        self._life.check_open()
        self._bind()
        await self._life.start(workers or self.config.concurrency)

    async def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109  # not a limit on the call: past it, the rest is cancelled
        """Accept no more tasks, and return when every task is settled and no process of the pool is left.

        Threads that wait for a result get one, or `TaskCancelled`.

        Args:
            drain: Whether to run all tasks to their end; `False` cancels queued and running ones.
            timeout: Seconds the draining may take; tasks left after that are cancelled. `None`: no limit.

        Cancellation: everything is ended at once, and `CancelledError` is raised when that is done.

        Raises:
            ExecuteError: The pool belongs to another loop.
        """
        validate.seconds("timeout", timeout)
        if self._loop is None or not self._loop.is_closed():
            self._bind()
        try:
            await self._life.stop(drain, timeout)
        finally:
            self._over = self._over or self._life.stopped  # not if `stop` was refused
            self._sweep()

    async def __aenter__(self) -> Self:
        await self.start_executor()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._life.is_inherited:  # a forked child that unwinds leaves the pool of its parent alone
            await self.stop(drain=kind is None)
