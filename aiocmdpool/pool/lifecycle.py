"""The life of a pool: new, running, stopped, once and in this order; with the runners, and the backend they use."""

import asyncio

from aiocmdpool.backends.config import ExecutionBackend, ExecutionConfig, create_backend
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import PoolClosed
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.pool.priority_queue import PoolQueue
from aiocmdpool.pool.runners import PoolTasks


class PoolLife:
    """Starts and stops what takes tasks off a queue. `CommandPool` is the door; its methods say what is promised.

    Args:
        config: Names the backend that is made if there is no `executor`.
        executor: Used, and not closed.
        queue: Whose pushers are refused when it stops.
        tasks: Run until it stops.
    """

    def __init__(
        self, config: ExecutionConfig, executor: CommandExecutor | None, queue: PoolQueue, tasks: PoolTasks
    ) -> None:
        self._config = config
        self.executor = executor
        """What runs the commands; `None` until there is something."""
        self._queue = queue
        self._tasks = tasks
        self._backend: ExecutionBackend | None = None
        self._runners: list[asyncio.Task[None]] = []
        self._stopped: asyncio.Future[None] | None = None
        self.started = False

    @property
    def stopped(self) -> bool:
        """Whether it has stopped, or is about to."""
        return self._stopped is not None

    async def start(self, runners: int) -> None:
        """Start so many runners, and the backend before them. Harmless when repeated."""
        self.check_open()
        if self.started:
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
        for number in range(runners):
            runner = asyncio.create_task(self._tasks.run_tasks(self.executor), name=f"aiocmdpool-runner-{number}")
            self._runners.append(runner)

    async def stop(self, drain: bool, seconds: float | None) -> None:
        """Refuse pushers, settle every task, end the runners and the backend."""
        if self._stopped is not None:
            await self._stop_too(drain, seconds)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        self._queue.refuse_pushers(self.closed_error)
        settled = self._tasks.settled()
        cancelled = None
        if drain and any(not runner.done() for runner in self._runners):
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

    # -- checks -----------------------------------------------------------------------------------------------------

    def check_open(self, command: CommandConfig | None = None) -> None:
        """Refuse what comes after the stop.

        Raises:
            PoolClosed: It has stopped.
        """
        if self._stopped is not None:
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
        return PoolClosed("the pool is stopped and takes no tasks; make a new one", command=command)
