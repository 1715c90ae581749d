"""`TaskHandle`: one command that a pool of the facade has accepted."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.loops.gate import Gate
from aiocmdpool.loops.interruptions import wait_or_end
from aiocmdpool.sync.binding import Link
from aiocmdpool.sync.calls import Call, raise_again
from aiocmdpool.sync.no_loop import check_no_loop
from aiocmdpool.sync.process_wide import stay_if_exiting
from aiocmdpool.tasks import handle as task_handle
from aiocmdpool.tasks.status import TaskStatus

if TYPE_CHECKING:
    from types import TracebackType


class TaskHandle:
    """A task: its id, its status, and its outcome, for which `result` blocks.

    Concurrency: any thread may use it, several at once. An outcome that is there can be had anywhere, in a callback or
    in a thread with an event loop as well; waiting for one cannot.

    Args:
        handle: That of the pool. Made on the loop.
        link: Of the pool.
        owner: The pool, which is not to be forgotten, and so closed, while somebody may wait for its tasks.
    """

    __slots__ = ("_gate", "_link", "_owner", "_traceback", "inner")

    def __init__(self, handle: task_handle.TaskHandle, link: Link, owner: object) -> None:
        self.inner = handle
        """That of the pool, for its loop."""
        self._link = link
        self._owner = owner
        self._gate = Gate()
        self._traceback: TracebackType | None = None
        handle.add_done_callback(self._settled)

    def _settled(self, handle: task_handle.TaskHandle) -> None:
        error = handle.exception()
        if error is not None:
            self._traceback = error.__traceback__
        self._gate.open()

    @property
    def id(self) -> int:
        """Unique in this process, growing."""
        return self.inner.id

    @property
    def command(self) -> CommandConfig:
        """What it runs."""
        return self.inner.command

    @property
    def priority(self) -> int:
        """Higher went first."""
        return self.inner.priority

    @property
    def status(self) -> TaskStatus:
        """Where it is in its life."""
        return self.inner.status

    @property
    def queued(self) -> float:
        """Seconds it waited in the queue, or has waited so far."""
        return self.inner.queued

    def done(self) -> bool:
        """Whether the task is settled."""
        return self.inner.done()

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self.inner.cancelled()

    def result(self, timeout: float | None = None) -> CommandResult:
        """Wait for the result.

        Args:
            timeout: Seconds to wait, 0 for what is there by now; the task is left alone when they are over. `None`: as
                long as it takes.

        Interruption: what a signal handler raises here (KeyboardInterrupt, SystemExit, …) leaves when the command is
        dead and reaped.

        Raises:
            ExecuteError: What went wrong; `TaskCancelled` if the task was cancelled.
            TimeoutError: It is not settled yet. A `CommandTimeout`, which is one as well, is an outcome.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise_again(error, self._traceback or error.__traceback__)
            finally:
                del error  # else this frame and the error keep each other alive
        return self.inner.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the error, or `None` if there is a result; otherwise as `result`."""
        if not self.inner.done() and not self._wait(validate.seconds("timeout", timeout)):
            name = self.inner.command.display()
            raise TimeoutError(f"{name}: not settled within {timeout:g} s; the task goes on ({self.status.value})")
        return self.inner.exception()

    def _wait(self, seconds: float | None) -> bool:
        check_no_loop("TaskHandle")
        background = self._link.background()  # which may be the parent's, whose loop is not in this process

        def end() -> None:
            call = Call(background, self._end)
            call.submit()
            call.gate.wait()

        wait_or_end(lambda: self._gate.wait(seconds), end)
        stay_if_exiting()
        return self.inner.done()

    async def _end(self) -> None:
        self.inner.cancel()
        await self.inner.wait_settled()

    def cancel(self) -> bool:
        """Withdraw the task if it is pending, end its command if it runs; does not wait for that end.

        Returns:
            Whether there was anything to cancel.
        """
        return not self.inner.done() and self._link.ask(self.inner.cancel)

    def add_done_callback(self, callback: "Callable[[TaskHandle], object]") -> None:
        """Call `callback(handle)` once the task is settled; soon, if it already is.

        It is called in the background thread, on the loop that all pools of the facade share: it must be quick, and
        blocking calls of this package are refused there.
        """
        self._link.ask(lambda: self.inner.add_done_callback(_Callback(self, callback)))

    def remove_done_callback(self, callback: "Callable[[TaskHandle], object]") -> int:
        """Take a callback back; returns how often it was registered."""
        return self._link.ask(lambda: self.inner.remove_done_callback(_Callback(self, callback)))

    def __repr__(self) -> str:
        return repr(self.inner)


@dataclasses.dataclass(frozen=True, slots=True)
class _Callback:
    """Equal to another one for the same function, so that it can be found again."""

    handle: TaskHandle
    function: Callable[[TaskHandle], object]

    def __call__(self, _: task_handle.TaskHandle) -> None:
        self.function(self.handle)
