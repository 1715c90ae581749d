"""`RunnerSet`: the runners of a pool, always as many as wanted.

One that an executor or a hook has ended, cancelled or does not return to is replaced; only the end of the pool and the
end of its loop are final.
"""

import asyncio
import contextvars
from collections.abc import Callable
from itertools import islice

from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.pool.runners import AT_ONCE, PoolTasks
from aiocmdpool.system.safe_log import SafeLog

_log = SafeLog("aiocmdpool.pool")

IDLE_TIMEOUT = 5.0  # seconds for an idle runner to end; only a semaphore of the user's could keep it longer


class RunnerSet:
    """Starts the runners of a pool, replaces those that are lost, and ends them.

    Args:
        tasks: The tasks that they run.
        is_ending: Tells whether runners that end are not to be replaced.
    """

    def __init__(self, tasks: PoolTasks, is_ending: Callable[[], bool]) -> None:
        self._tasks = tasks
        self._is_ending = is_ending
        self._executor: CommandExecutor | None = None
        self._runners: set[asyncio.Task[None]] = set()
        self._started = 0
        self._context = contextvars.Context()
        tasks.is_ending = is_ending
        tasks.on_lost = self._lose

    def __contains__(self, task: object) -> bool:
        return task in self._runners

    def clear(self) -> None:
        """Forget all runners: each has ended, or will not be waited for."""
        self._runners.clear()

    def start(self, executor: CommandExecutor, runners: int) -> None:
        """Start `runners` runners, in the context of this call; so are those that replace them."""
        self._context = contextvars.copy_context()
        self.fill_up(executor, runners)

    def fill_up(self, executor: CommandExecutor, runners: int) -> None:
        """Start the missing ones of `runners` runners."""
        self._executor = executor
        for _ in range(len(self._runners), runners):
            self._start_runner()

    def _start_runner(self) -> None:
        """Start one runner in the context of `start`, free of what an executor did to the context of another runner."""
        if not self._is_ending():
            name = f"aiocmdpool-runner-{self._started}"
            self._started += 1
            runner = self._context.copy().run(lambda: asyncio.create_task(self._run_tasks(), name=name))
            runner.add_done_callback(_look_at)
            if not runner.done():
                self._runners.add(runner)

    async def _run_tasks(self) -> None:
        """Run tasks as one runner, and have it replaced if it ends before the pool does."""
        assert self._executor is not None
        runner = asyncio.current_task()
        assert runner is not None
        self._runners.add(runner)  # an eager task factory runs it, to its end even, before the caller could add it
        try:
            await self._tasks.run_tasks(self._executor)
        except BaseException as failure:
            if self._is_ending():
                raise
            if isinstance(failure, KeyboardInterrupt | SystemExit):  # ends the loop, from here and at once
                self._lose(runner)  # so that the pool is intact if the loop is run again
                raise
            if isinstance(failure, asyncio.CancelledError) and runner in self._runners:
                self._tasks.disturbances.note("a runner was cancelled, as an executor may do to the task it runs in")
            elif isinstance(failure, Exception):
                self._tasks.disturbances.note("a runner failed:", failure)
                self._lose(runner)
                _log.exception("a runner of the pool failed; another takes its place")
        self._lose(runner)

    def _lose(self, runner: "asyncio.Task[None]") -> None:
        """Replace a runner, once: one that was given up may end later, or never."""
        if runner in self._runners:
            self._runners.remove(runner)
            asyncio.get_running_loop().call_soon(self._start_runner)

    async def cancel(self) -> asyncio.CancelledError | None:
        """Cancel the idle runners, a limited number in each iteration of the loop, and wait for their ends."""
        cancelled, runners = None, iter(tuple(self._runners))
        while some := tuple(islice(runners, AT_ONCE)):
            for runner in some:
                runner.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                cancelled = error
        left = [runner for runner in self._runners if not runner.done()]
        return await wait_through(asyncio.gather(*left, return_exceptions=True), IDLE_TIMEOUT) or cancelled


def _look_at(runner: "asyncio.Task[None]") -> None:
    """Retrieve the exception of a runner, handled elsewhere, so that asyncio does not log it as never retrieved."""
    if not runner.cancelled():
        runner.exception()
