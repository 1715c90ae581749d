"""The life of a pool: new, running, stopped, once and in this order; with its loop, the runners, and the backend.

There are always as many runners as wanted. One that an executor or a hook has ended, cancelled, or does not give back,
is replaced; only the end of the pool and the end of its loop are final.
"""

import asyncio
import contextvars
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
from aiocmdpool.pool.runners import PoolTasks
from aiocmdpool.system.safe_log import SafeLog

_log = SafeLog("aiocmdpool.pool")

IDLE_TIMEOUT = 5.0  # seconds an idle runner has to end; only a semaphore of somebody else's could keep it
CLOSE_TIMEOUT = 10.0  # seconds for a backend whose loop is closed: what watched its programs is gone


class PoolLife:
    """Starts and stops what takes tasks off a queue. `CommandPool` is the door; its methods say what is promised.

    Args:
        config: Names the backend that is made if there is no `executor`.
        executor: Used, and not closed.
        queue: Whose pushers are refused when it stops.
        tasks: Run until it stops.
        on_loop_end: Called at the end of the loop, from the loop when its tasks are cancelled, from any thread when it
            is closed. `None`: every task is cancelled, and no more are taken.
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
        """What runs the commands; `None` until there is something."""
        self._queue = queue
        self._tasks = tasks
        self._on_loop_end = on_loop_end or self._loop_ended
        self._backend: ExecutionBackend | None = None
        self._runners: set[asyncio.Task[None]] = set()
        self._started_runners = 0
        self._context = contextvars.Context()
        self._ending = False
        self._stopped: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed: LoopClosed | None = None
        self._end: LoopEnd | None = None
        self.loop_ended = False
        """Whether its loop has come to its end, and nothing runs any more."""
        self.started = False
        tasks.is_ending = self._is_ending
        tasks.on_lost = self._lose

    @property
    def stopped(self) -> bool:
        """Whether it has stopped, or is about to."""
        return self._stopped is not None

    # -- the loop ---------------------------------------------------------------------------------------------------

    def belong_here(self, command: CommandConfig | None = None) -> None:
        """Belong to the loop that runs, as of now or before.

        Raises:
            ExecuteError: It belongs to another one.
            PoolClosed: To another one, which is closed.
        """
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
            self._tasks.belong_to(loop)
            # Weak: a pool that nobody has started may be forgotten.
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
        """Nobody comes for the tasks any more."""
        self.loop_ended = True
        self._queue.refuse_pushers(self.closed_error)
        if self._loop is None or self._loop.is_closed():
            self._tasks.abandon()
        else:
            self._tasks.cancel_all("the loop of its pool has ended")

    # -- runners ----------------------------------------------------------------------------------------------------

    async def start(self, runners: int, *, more: bool = False) -> None:
        """Start so many runners, and the backend before them. Harmless when repeated.

        Args:
            runners: How many.
            more: Start those that are missing, where fewer were started before.
        """
        self.belong_here()
        self.check_open()
        if self.started:
            if more and self.executor is not None:
                self._add_runners(runners)
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
            if self._stopped is not None:  # stopped while the backend started
                await backend.aclose()
                raise self.closed_error()
        self._end = LoopEnd(asyncio.get_running_loop(), self._notice_loop_end)
        self._context = contextvars.copy_context()
        self._add_runners(runners)

    def _add_runners(self, runners: int) -> None:
        for _ in range(len(self._runners), runners):
            self._start_runner()

    def _start_runner(self) -> None:
        """Start one, in the context of the start: what an executor has done to that of another one is not for it."""
        if not self._is_ending():
            name = f"aiocmdpool-runner-{self._started_runners}"
            self._started_runners += 1
            runner = self._context.copy().run(lambda: asyncio.create_task(self._run_tasks(), name=name))
            runner.add_done_callback(_look_at)
            if not runner.done():
                self._runners.add(runner)

    async def _run_tasks(self) -> None:
        """A runner; see to it that another takes its place when it ends before the pool does."""
        assert self.executor is not None
        runner = asyncio.current_task()
        assert runner is not None
        self._runners.add(runner)  # with an eager task factory, nobody else could before it may end
        try:
            await self._tasks.run_tasks(self.executor)
        except BaseException as failure:
            if self._is_ending():
                raise
            if isinstance(failure, KeyboardInterrupt | SystemExit):  # ends the loop, from here and at once
                self._lose(runner)  # so that who runs it again finds the pool as it was
                raise
            if isinstance(failure, asyncio.CancelledError) and runner in self._runners:
                self._tasks.disturbances.note("a runner was cancelled, as an executor may do to the task it runs in")
            elif isinstance(failure, Exception):
                self._tasks.disturbances.note("a runner failed:", failure)
                _log.exception("a runner of the pool failed; another takes its place")
        self._lose(runner)

    def _lose(self, runner: "asyncio.Task[None]") -> None:
        """Replace a runner, once: one that was given up ends later, or never."""
        if runner in self._runners:
            self._runners.remove(runner)
            asyncio.get_running_loop().call_soon(self._start_runner)

    def _is_ending(self) -> bool:
        """Whether the pool ends its runners, or the loop all of its tasks."""
        return self._ending or self.loop_ended or (self._end is not None and self._end.has_come)

    # -- the stop ---------------------------------------------------------------------------------------------------

    async def stop(self, drain: bool, seconds: float | None) -> None:
        """Refuse pushers, settle every task, end the runners and the backend."""
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

    async def _end_runners(self) -> asyncio.CancelledError | None:
        """End the runners, idle by now, the watch over the loop, and the backend."""
        self._ending = True
        for runner in self._runners:
            runner.cancel()
        cancelled = await wait_through(asyncio.gather(*self._runners, return_exceptions=True), IDLE_TIMEOUT)
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
        """The loop was closed before the pool was stopped: settle what is left, and close the backend from here."""
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
        """Refuse what comes after the stop, or from another loop.

        Raises:
            PoolClosed: It has stopped.
            ExecuteError: It belongs to another loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            self.belong_here(command)
        self.check_open(command)

    def check_open(self, command: CommandConfig | None = None) -> None:
        """Refuse what comes after the stop.

        Raises:
            PoolClosed: It has stopped.
        """
        if self._stopped is not None or self.loop_ended:
            raise self.closed_error(command)

    def check_started(self, command: CommandConfig | None = None) -> None:
        """Refuse what would wait for ever.

        Raises:
            PoolClosed: It was not started.
        """
        if not self.started:
            message = "the pool is not started: use 'async with CommandPool()', or await start_executor() first"
            raise PoolClosed(message, command=command)

    def closed_error(self, command: CommandConfig | None = None) -> PoolClosed:
        """What a push after the stop gets."""
        if self._stopped is None:
            return PoolClosed("the event loop of the pool has ended; make a new pool on another one", command=command)
        return PoolClosed("the pool is stopped and takes no tasks; make a new one", command=command)


def _look_at(runner: "asyncio.Task[None]") -> None:
    """What it raised is known already: asyncio need not complain that nobody has seen it."""
    if not runner.cancelled():
        runner.exception()
