"""`PoolLife`: the lifecycle of a pool (new, running, stopped, in this order), its loop and backend."""

import asyncio
import os
import weakref
from collections.abc import Callable

from aiocmdpool.backends.config import ExecutionBackend, ExecutionConfig, create_backend
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, PoolClosed
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.loops.loop_end import LoopClosed, LoopEnd
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.pool.priority_queue import PoolQueue
from aiocmdpool.pool.runner_set import RunnerSet
from aiocmdpool.pool.runners import PoolTasks

CLOSE_TIMEOUT = 10.0  # seconds to close a backend whose loop is closed: nothing watches its programs any more


class PoolLife:
    """Starts and stops the runners and the backend of a pool. `CommandPool` has the public methods with their promises.

    Args:
        config: Configuration of the backend that is made if there is no `executor`.
        executor: Executor to use and not to close; `None` to make a backend.
        queue: The queue; its pushers are refused when the pool stops.
        tasks: The tasks, run until the pool stops.
        on_loop_end: Called at the end of the loop: from the loop when its tasks are cancelled, from any thread when it
            is closed. `None`: every task is cancelled, and no more are accepted.
    """

    def __init__(
        self,
        config: ExecutionConfig,
        executor: CommandExecutor | None,
        queue: PoolQueue,
        tasks: PoolTasks,
        on_loop_end: Callable[[], None] | None = None,
    ) -> None:
        self._config = config
        self.executor = executor
        """Executor of the commands; `None` until the backend is made."""
        self._queue = queue
        self._tasks = tasks
        self._on_loop_end = on_loop_end or self._loop_ended
        self._backend: ExecutionBackend | None = None
        self._ending = False
        self._stopped: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed: LoopClosed | None = None
        self._end: LoopEnd | None = None
        self.loop_ended = False
        """Whether the loop of the pool has ended, so that nothing runs any more."""
        self.started = False
        self._runners = RunnerSet(tasks, self._is_ending)

    @property
    def stopped(self) -> bool:
        """Return whether the pool has stopped, or is stopping."""
        return self._stopped is not None

    @property
    def is_inherited(self) -> bool:
        """Return whether the pool belongs to the parent of this forked process."""
        return self._pid not in (0, os.getpid())

    @property
    def stands_still(self) -> bool:
        """Return whether the loop of the pool was stopped and not closed, and the thread that ran it is gone."""
        loop_thread = self._tasks.loop_thread
        return loop_thread is not None and loop_thread.is_gone and not self.is_inherited

    # -- the loop ---------------------------------------------------------------------------------------------------

    def belong_here(self, command: CommandConfig | None = None) -> None:
        """Bind the pool to the running event loop, unless it is bound to it already.

        Raises:
            ExecuteError: The pool belongs to another loop.
            PoolClosed: The pool belongs to another loop, which is closed.
        """
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
            self._tasks.belong_to(loop)
            # Weak, so that a pool that nobody has started can be collected.
            on_end = weakref.WeakMethod(self._notice_loop_end)
            self._closed = LoopClosed(loop, lambda: (call := on_end()) and call())
        elif self._loop.is_closed():
            message = "this pool belongs to another event loop, which is closed; make a new pool for each loop"
            raise PoolClosed(message, command=command)
        else:
            cure = "make one for each, or use CommandPoolSeg, which takes tasks from any thread"
            raise ExecuteError(f"this pool belongs to another event loop; {cure}", command=command)

    def _notice_loop_end(self) -> None:
        if os.getpid() == self._pid and not (self.stopped and self._ending):
            self._on_loop_end()

    def _loop_ended(self) -> None:
        """Cancel all tasks and refuse pushers, because the loop has ended and nothing will run them."""
        self.loop_ended = True
        self._queue.refuse_pushers(self.closed_error)
        if self._loop is None or self._loop.is_closed():
            self._tasks.abandon()
        else:
            self._tasks.cancel_all("the loop of its pool has ended")

    # -- runners ----------------------------------------------------------------------------------------------------

    async def start(self, runners: int, *, more: bool = False) -> None:
        """Start the backend, then `runners` runners. Harmless when repeated.

        Args:
            runners: Number of runners.
            more: Whether to start the missing ones if fewer were started before.
        """
        self.belong_here()
        self.check_open()
        if self.started:
            if more and self.executor is not None:
                self._runners.fill_up(self.executor, runners)
            return
        self.started = True
        if self.executor is None:
            try:
                backend = create_backend(self._config)
                self.executor = await backend.__aenter__()
            except BaseException:
                self.started = False
                raise
            self._backend = backend
            if self._stopped is not None:  # stopped while the backend was starting
                await backend.aclose()
                raise self.closed_error()
        self._end = LoopEnd(asyncio.get_running_loop(), self._notice_loop_end)
        self._runners.start(self.executor, runners)

    def _is_ending(self) -> bool:
        """Return whether the pool is ending its runners, or the loop is cancelling all of its tasks."""
        return self._ending or self.loop_ended or (self._end is not None and self._end.has_come)

    # -- the stop ---------------------------------------------------------------------------------------------------

    async def stop(self, drain: bool, seconds: float | None) -> None:
        """Refuse pushers, settle every task, end the runners and the backend."""
        if self.is_inherited:
            raise ExecuteError("this pool belongs to the parent of this forked process; make a new one here")
        if self._loop is not None and self._loop.is_closed():
            await self._stop_after_loop()
            return
        self.belong_here()
        if asyncio.current_task() in self._runners:
            raise ExecuteError("stop() waits for the run that has called it; call it from a task that no run waits for")
        if self._stopped is not None:
            await self._stop_too(drain, seconds)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        self._queue.refuse_pushers(self.closed_error)
        settled = self._tasks.settled()
        cancelled = None
        if drain and self._end is not None and not self._is_ending():
            cancelled = await wait_through(settled, seconds, on_cancel=self._tasks.cancel_all)
        self._tasks.cancel_all()
        cancelled = await wait_through(settled) or cancelled
        try:
            cancelled = await self._end_runners() or cancelled
        finally:
            self._stopped.set_result(None)
        if cancelled is not None:
            raise cancelled

    async def _stop_too(self, drain: bool, seconds: float | None) -> None:
        """Wait for a stop that another call has begun, or speed it up if `drain` is false."""
        assert self._stopped is not None
        cancelled = None
        if drain:
            cancelled = await wait_through(self._stopped, seconds, on_cancel=self._tasks.cancel_all)
        if not self._stopped.done():
            self._tasks.cancel_all()
            cancelled = await wait_through(self._stopped) or cancelled
        if cancelled is not None:
            raise cancelled

    async def _end_runners(self) -> asyncio.CancelledError | None:
        """End the idle runners, the watch over the loop, and the backend; return a cancellation that came meanwhile."""
        self._ending = True
        cancelled = await self._runners.cancel()
        self._runners.clear()
        if self._closed is not None:
            self._closed.cancel()
        if self._end is not None:
            cancelled = await self._end.cancel() or cancelled
        if self._backend is not None:
            closing = asyncio.ensure_future(self._backend.aclose())
            cancelled = await wait_through(closing) or cancelled
            closing.result()
        return cancelled

    async def _stop_after_loop(self) -> None:
        """Settle all tasks and close the backend from here, because the loop was closed before the pool was stopped."""
        if not self.loop_ended:
            self._on_loop_end()
        self._ending = True
        self._runners.clear()
        if self._stopped is None or not self._stopped.done():
            self._stopped = asyncio.get_running_loop().create_future()
            self._stopped.set_result(None)
        backend, self._backend = self._backend, None
        if backend is None:
            return
        closing = asyncio.ensure_future(backend.aclose())
        cancelled = await wait_through(closing, CLOSE_TIMEOUT)
        if not closing.done():
            closing.cancel()
            raise ExecuteError("the event loop of the pool was closed while programs ran in it, and they may run on")
        closing.result()
        if cancelled is not None:
            raise cancelled

    # -- checks -----------------------------------------------------------------------------------------------------

    def check_push(self, command: CommandConfig | None = None) -> None:
        """Raise an error if the pool is stopped, or belongs to another loop than the running one.

        Raises:
            PoolClosed: The pool is stopped.
            ExecuteError: The pool belongs to another loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            self.belong_here(command)
        self.check_open(command)

    def check_open(self, command: CommandConfig | None = None) -> None:
        """Raise `PoolClosed` if the pool is stopped or its loop has ended.

        Raises:
            PoolClosed: The pool is stopped.
        """
        if self._stopped is not None or self.loop_ended:
            raise self.closed_error(command)

    def check_started(self, command: CommandConfig | None = None) -> None:
        """Raise `PoolClosed` if the pool was not started: the task would wait forever.

        Raises:
            PoolClosed: The pool was not started.
        """
        if not self.started:
            message = "the pool is not started: use 'async with CommandPool()', or await start_executor() first"
            raise PoolClosed(message, command=command)

    def check_moving(self, command: CommandConfig | None = None) -> None:
        """Raise `PoolClosed` if the loop of the pool stands still: nobody would settle the task.

        Raises:
            PoolClosed: The loop stands still, and the thread that ran it is gone.
        """
        if self.stands_still:
            message = (
                "the event loop of the pool stands still and its thread is gone; "
                "stop the pool before its loop, or run the loop again"
            )
            raise PoolClosed(message, command=command)

    def closed_error(self, command: CommandConfig | None = None) -> PoolClosed:
        """Return the error for a push to a pool that is stopped, or whose loop has ended."""
        if self._stopped is None:
            return PoolClosed("the event loop of the pool has ended; make a new pool on another one", command=command)
        return PoolClosed("the pool is stopped and takes no tasks; make a new one", command=command)
