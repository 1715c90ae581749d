"""`Worker`: one resident worker that runs commands, is closed, and fails its commands when it dies.

execute ── START ──▶ worker program ──▶ EXIT or FAILED ── result or error
              │
              └── cancelled: CANCEL, and wait for the EXIT all the same
"""

import asyncio
from collections.abc import Callable

from aiocmdpool.backends.workers.answers import Answers, result_in
from aiocmdpool.backends.workers.burial import Burial
from aiocmdpool.backends.workers.connection import CLOSED_PIPE
from aiocmdpool.backends.workers.guardian import Guardian
from aiocmdpool.backends.workers.heartbeat import Heartbeat
from aiocmdpool.backends.workers.ledger import Ledger
from aiocmdpool.backends.workers.pending import Pending, RequestNotSent, WorkerUnfit
from aiocmdpool.backends.workers.process import WorkerProgram
from aiocmdpool.backends.workers.request import Request
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ExecuteError, IoError, TaskCancelled
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.commands.run_control import RunControl
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.standalone.kernel.transient import StartRetry
from aiocmdpool.standalone.wire import frames, messages
from aiocmdpool.system.start_failure import stream_failure
from aiocmdpool.system.worker_python import WorkerPython

PROVEN_AFTER = 1.0  # seconds that a worker without work has to live before its death is no sign of a broken start
CLOSE_TIMEOUT = 2.0  # seconds an idle worker has to leave by itself


class Worker:
    """A resident worker; it starts when it is made and takes commands at once.

    Args:
        niceness: Number to add to the niceness of this process, for the worker and its commands.
        ledger: The pool's budget for output.
        hang_after: Seconds without any sign of life, while it has work, after which it counts as hung and is killed.
        gone: Called with this worker, once, when it is dead and every request to it is answered.
        guardian: Notified of the worker when it starts; forked by it if it is missing.
        unfit: Called with this worker and a reason when another one should replace it; returns whether one does.
        python: The Python that runs it; by default, that of this process.

    Raises:
        WorkerLost: The worker could not be started.
    """

    def __init__(
        self,
        niceness: int,
        ledger: Ledger,
        hang_after: float,
        gone: Callable[["Worker"], None],
        guardian: Guardian,
        unfit: Callable[["Worker", str], bool] = lambda worker, why: False,
        idle_for: float = 0,
        python: WorkerPython | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone, self._unfit = gone, unfit
        self.guardian = guardian
        self._pending: dict[int, Pending] = {}
        self._last_number = 0
        self.lost_because: str | None = None
        self._idle: asyncio.Future[None] | None = None
        self._started_at = self._loop.time()
        self._closing = self._retired = False
        self._burial: Burial | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.completed = 0
        self.ready = False
        """Whether the worker has sent HELLO."""
        self._program = WorkerProgram(
            self._loop,
            niceness,
            guardian,
            ledger,
            idle_for,
            python or WorkerPython(),
            self._received,
            self._lose,
            self._on_exit,
        )
        self.pid = self._program.pid
        self._page = self._program.page
        self.handles = self._program.handles
        self._heartbeat = Heartbeat(
            self._loop,
            self.pid,
            hang_after,
            self._program.fitness,
            self._pending,
            lambda frame: self._program.connection.send(0, frame),
            self._lose,
            self._retire,
            guardian.look,
        )
        self._read_answer = Answers(self._program, guardian, self._heartbeat.unfit, self._retire).read

    @property
    def in_flight(self) -> int:
        """Return the number of commands that the worker was given and has not answered."""
        return len(self._pending)

    @property
    def proven(self) -> bool:
        """Return whether the worker has shown that workers can live on this system."""
        return self.ready and (self.completed > 0 or self._loop.time() - self._started_at > PROVEN_AFTER)

    @property
    def congested(self) -> bool:
        """Return whether more has been sent to the worker than it takes at present."""
        return self._program.connection.congested

    async def drained(self) -> None:
        """Wait until the worker takes more, or is lost."""
        await self._program.connection.drained()

    @property
    def usable(self) -> bool:
        """Return whether the worker takes commands."""
        return self.lost_because is None and not self._closing and not self._retired

    @property
    def sends_in_this_turn(self) -> bool:
        """Return whether a request goes out to the worker in this iteration of the loop."""
        return self._program.connection.sends_in_this_turn

    # -- its loop ---------------------------------------------------------------------------------------------------

    @property
    def is_at_rest(self) -> bool:
        """Return whether the worker can be moved: it is idle, and alive as far as its loop knows."""
        return self.usable and not self._pending and self._program.connection.is_at_rest

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move the idle worker to another event loop."""
        self._loop = loop
        self.ended = loop.create_future()
        self._heartbeat.move(loop)
        self._program.move(loop)

    @property
    def has_left_idle(self) -> bool:
        """Return whether the worker has exited because it got no request for a while."""
        return self._program.has_left_idle

    # -- one command ------------------------------------------------------------------------------------------------

    async def execute(self, command: CommandConfig, control: RunControl | None = None) -> CommandResult:
        """Run `command` in this worker and return its result, however it ended.

        Cancellation: the command is ended by `stop_signal`, `grace`, SIGKILL, and dead before `CancelledError` is
            raised; the error's cause, a `TaskCancelled`, holds the result.

        Raises:
            IoError: The command could not be started.
            OnlyHere: A stream is a file that only this process can open.
            RequestNotSent: The worker was lost before it got the request.
            WorkerLost: The worker was lost, and the command may have run.
            WorkerUnfit: The worker could not start the command, for a reason of its own, and is being replaced.
        """
        if self._program.connection.congested:
            await self._program.connection.drained()
        if not self.usable:
            raise RequestNotSent
        try:
            number, entry, request = self._submit(command, control)
        except IoError as error:
            number, entry, request = await self._submit_with_retry(command, control, error)
        cancelled: asyncio.CancelledError | None = None
        try:
            await entry.future
        except asyncio.CancelledError as error:
            cancelled = error
            await self._end(number, entry)
        finally:
            del self._pending[number]
            request.close()
            if self._idle is not None and not self._pending and not self._idle.done():
                self._idle.set_result(None)
        try:
            result = await result_in(command, entry.answer, self._page)
        except Exception as error:
            if cancelled is not None:
                raise cancelled from (error.error if isinstance(error, WorkerUnfit) else error)
            raise
        self.completed += 1
        if cancelled is not None:
            raise cancelled from TaskCancelled(f"{command.display()}: cancelled", result=result)
        return result

    async def _submit_with_retry(
        self, command: CommandConfig, control: RunControl | None, error: IoError
    ) -> tuple[int, Pending, Request]:
        """Submit a request again whose first try failed with `error`; for a while, if the reason may pass by itself."""
        retry = StartRetry()
        while (delay := retry.delay(error.errno)) >= 0:
            await asyncio.sleep(delay)
            if not self.usable:
                raise RequestNotSent
            try:
                return self._submit(command, control)
            except IoError as again:
                error = again
        raise error

    def _submit(self, command: CommandConfig, control: RunControl | None) -> tuple[int, Pending, Request]:
        """Make a request for `command` and send it; return its number, its entry and the request."""
        program = self._program
        number = self._last_number = (self._last_number + 1) & 0xFFFFFFFF
        try:
            request = Request(number, command, program.environment, program.home, program.group, control, self._loop)
        except OSError as error:
            raise stream_failure(command, error) from None
        entry = self._pending[number] = Pending(command, control, self._loop.create_future())
        try:
            self._send(number, command, entry, request)
        except BaseException:  # nobody waits for an answer then, so the worker must not be expected to give one
            del self._pending[number]
            request.close()
            raise
        return number, entry, request

    def _send(self, number: int, command: CommandConfig, entry: Pending, request: Request) -> None:
        connection = self._program.connection
        if self._heartbeat.timer is None:
            self._heartbeat.start()
        if not request.descriptors:
            connection.send(number, request.frame)
        else:
            connection.send_with_descriptors(
                number,
                request.frame,
                request.descriptors,
                request.sent,
                lambda error: entry.resolve(stream_failure(command, error)),
            )

    async def _end(self, number: int, entry: Pending) -> None:
        """End a command whose caller was cancelled, and wait for its answer, through further cancellations."""
        if entry.answer is None:
            entry.future = self._loop.create_future()  # the former one was cancelled together with its caller
            self.end(number, messages.CANCELLED)
            await wait_through(entry.future)

    def end(self, number: int, reason: int) -> None:
        """Have the command with this request number ended; its answer will say how."""
        connection = self._program.connection
        if connection.withdraw(number):
            self._pending[number].resolve(RequestNotSent())
        elif not connection.closed:
            connection.send(0, frames.encode(frames.CANCEL, number, bytes([reason])))

    def _signal(self, number: int, signal: int) -> None:
        """Send a signal to the program of a request.

        Directly, if this process can tell that the pid still belongs to the program: then data that is written to it
        next comes after the signal, as after kill(2). By way of the worker, the data would overtake the signal.
        """
        entry = self._pending.get(number)
        if entry is None or entry.signal(self.pid, signal):
            return
        if not self._program.connection.closed:
            self._program.connection.send(0, frames.encode(frames.SIGNAL, number, bytes([signal])))

    # -- frames -----------------------------------------------------------------------------------------------------

    def _received(self, kind: int, number: int, payload: bytes) -> None:
        self._heartbeat.heard = True
        if kind in (frames.EXIT, frames.FAILED):
            entry = self._pending[number]
            if entry.answer is not None:
                raise frames.ProtocolError(f"a second answer to request {number}")
            entry.resolve(self._read_answer(kind, number, payload, entry.command))
        elif kind == frames.STARTED:
            entry = self._pending[number]
            entry.started_pid = messages.unpack_pid(payload)
            entry.started_at = self._loop.time()
            if entry.control is not None:
                entry.control.started(entry.started_pid, lambda signal: self._signal(number, signal))
        elif kind == frames.HELLO:
            self.ready = self._heartbeat.greeted = True
        elif kind == frames.PONG:
            self._heartbeat.answered(number, payload)
        else:
            raise frames.ProtocolError(f"a frame of kind {kind}, which only a parent sends")

    def _retire(self, why: str) -> bool:
        """Have an unfit worker replaced, and give it no more commands if another one can be started.

        Args:
            why: What it lacks; empty for nothing.

        Returns:
            Whether it gets no more commands, for this reason or for an earlier one.
        """
        if why and self.usable and self._unfit(self, why):
            self._retired = True
        return self._retired

    # -- its end ----------------------------------------------------------------------------------------------------

    def _lose(self, why: str) -> None:
        """Kill a worker that is of no use any more; the rest follows its exit."""
        if self.lost_because is None:
            self.lost_because = why
            self._heartbeat.stop()
            self._burial = Burial(self, self._loop, self._program, self._pending, self._buried)
            self._burial.kill()

    def _on_exit(self) -> None:
        self._program.connection.read_rest()
        if self.lost_because is None:
            self._lose(CLOSED_PIPE)
        assert self._burial is not None
        self._burial.begin()

    def _buried(self) -> None:
        self.ended.set_result(None)
        self._gone(self)

    def cause_of_death(self) -> str:
        """Return a text about why the worker was lost, with the end of its stderr."""
        cause, code = self.lost_because or "it is alive", self._program.returncode
        if cause == CLOSED_PIPE and code is not None:
            cause = f"it was killed by signal {-code}" if code < 0 else f"it exited with status {code}"
        return cause + self._program.last_words()

    def end_all(self, reason: int) -> None:
        """Have all commands of the worker ended with `reason`."""
        for number in list(self._pending):
            self.end(number, reason)

    def close_in_fork(self) -> None:
        """Give the worker up in this forked child, without asking or ending anything: it belongs to the parent."""
        self._program.close_in_fork()
        for entry in self._pending.values():
            if entry.answer is None:  # so that a coroutine which the child cancels does not wait for one
                entry.answer = ExecuteError(
                    "its worker belongs to the parent of this forked process", command=entry.command
                )

    async def aclose(self) -> asyncio.CancelledError | None:
        """Let the worker exit once it has no more work, and kill it if it does not; return what cancelled this wait."""
        if not self._closing and self.lost_because is None:
            self._closing = True
            self._program.connection.send(0, frames.encode(frames.CLOSE, 0))
        cancelled: asyncio.CancelledError | None = None
        if self._pending:
            self._idle = self._idle or self._loop.create_future()
            cancelled = await wait_through(self._idle)
        cancelled = await wait_through(self.ended, CLOSE_TIMEOUT) or cancelled
        if not self.ended.done():
            self._lose("it did not leave when it was asked to")
            cancelled = await wait_through(self.ended) or cancelled
        return cancelled

    def __repr__(self) -> str:
        state = "lost" if self.lost_because else "closing" if self._closing else "ready" if self.ready else "starting"
        return f"<Worker {self.pid} {state}, {self.in_flight} in flight, {self.completed} completed>"
