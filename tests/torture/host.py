"""The program that has a backend and runs one batch on it: `python -m torture.host`, the batch as JSON on stdin.

It tells what happens on stdout, a line each: `ready N`, `triggered N TIME`, `settled N TIME OUTCOME`, a tab and the
message of an error, where the time is that of the monotonic clock, which is one for all processes of the machine; at
the end `neighbours COUNT`, and `lost WHAT` for each that has not come to its own end. Hosts that are to die are not
closed.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from time import monotonic
from typing import Any

import uvloop

from aiocmdpool.commands.command import CommandConfig, OutputPolicy
from aiocmdpool.commands.errors import ExecuteError
from aiocmdpool.commands.run_control import RunControl

from .backends import BACKENDS, workers_of
from .behaviours import BEHAVIOURS, MARK_NAME
from .neighbours import HELD, Neighbours
from .plan import Batch, Run
from .scenery import on_the_mount
from .survivors import Marks
from .triggers import HOST_ENDS, TRIGGERS

READY_WITHIN = 20.0  # seconds; whatever is not ready then is ended all the same
DEADLINE = 0.6  # seconds: `timeout` and `idle_timeout`
LIMIT = 300_000  # bytes
MUTE_FOR = 0.3  # seconds given to programs that never say that they are ready
JITTER = 0.01  # seconds at most between readiness and the end
WARM_UP = 4  # commands, so that the workers are there when it begins
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


class Host:
    """One batch, with a backend of its own."""

    def __init__(self, batch: Batch, marks: Marks, backend: Any, folder: str) -> None:
        self._batch, self._marks, self._backend = batch, marks, backend
        self._chance = random.Random(batch.seed)
        self._ready = Ready(folder, {marks.of(run.number): run.number for run in batch.runs})
        self._folder = folder
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        await asyncio.gather(*(self._backend.execute(CommandConfig("true")) for _ in range(WARM_UP)))
        neighbours = Neighbours(self._backend.execute, self._folder, self._chance, self._ready.path)
        await self._all_ready(*HELD)
        for run in self._batch.runs:
            self._ready.events[run.number] = asyncio.Event()
            self.tasks[run.number] = asyncio.create_task(self._execute(run))
        await getattr(self, f"_trigger_{self._batch.trigger}", self._trigger_nothing)()
        await asyncio.wait(self.tasks.values())
        await neighbours.end()
        say("neighbours", neighbours.settled)
        for text in neighbours.lost:
            say("lost", " ".join(text.split()))
        await self._backend.aclose()
        self._ready.close()

    async def _execute(self, run: Run) -> None:
        command, began = self._command(run), monotonic()
        started: list[float] = []
        outcome: Any
        try:
            outcome = await self._backend.execute(command, control=RunControl(lambda: started.append(monotonic())))
        except (ExecuteError, asyncio.CancelledError) as error:
            outcome = error
        settled = monotonic()
        result = getattr(outcome, "result", outcome)
        if self._batch.trigger in ("timeout", "idle_timeout"):
            say("triggered", run.number, (started or [began])[0] + DEADLINE)
        elif self._batch.trigger == "exit" and hasattr(result, "duration"):  # not before either of these
            exited = max(began + result.duration, self._ready.times.get(run.number, 0.0))
            say("triggered", run.number, min(settled, exited))
        elif self._batch.trigger == "output_limit":  # nobody can say when the limit was reached: not before this
            say("triggered", run.number, min(settled, self._ready.times.get(run.number, began)))
        say("settled", run.number, settled, f"{_name_of(outcome)}\t{_message_of(outcome)}")

    def _command(self, run: Run) -> CommandConfig:
        behaviour, trigger, mark = BEHAVIOURS[run.behaviour], self._batch.trigger, self._marks.of(run.number)
        program, *args = behaviour.argv(self._ready.path, mark, TRIGGERS[trigger].ending)
        limited = trigger == "output_limit"
        command = CommandConfig(
            program,
            args,
            env={MARK_NAME: mark},
            grace=self._batch.grace,
            timeout=DEADLINE if trigger == "timeout" else None,
            idle_timeout=DEADLINE if trigger == "idle_timeout" else None,
            max_output=LIMIT,
            output_policy=OutputPolicy.FAIL if limited else OutputPolicy.KEEP_HEAD,
        )
        return on_the_mount(command, behaviour.on_the_mount) if behaviour.on_the_mount else command

    # -- what ends them -----------------------------------------------------------------------------------------------

    async def _trigger_nothing(self) -> None:
        """They end by themselves, or by what their commands say."""

    async def _trigger_cancel(self) -> None:
        await asyncio.gather(*map(self._cancel, self.tasks))

    async def _cancel(self, number: int) -> None:
        await self._all_ready(number)
        say("triggered", number, monotonic())
        self.tasks[number].cancel()

    async def _trigger_close(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        await self._backend.aclose()

    async def _trigger_worker_kill(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        for pid in workers_of(self._backend):
            os.kill(pid, signal.SIGKILL)

    async def _trigger_host_kill(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        os.kill(os.getpid(), signal.SIGKILL)

    async def _trigger_host_and_workers_kill(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        for pid in (*workers_of(self._backend), os.getpid()):
            os.kill(pid, signal.SIGKILL)

    async def _trigger_host_os_exit(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        os._exit(0)

    async def _trigger_host_sys_exit(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        sys.exit(0)

    async def _trigger_host_exception(self) -> None:
        await self._all_ready(*self.tasks)
        self._all_triggered()
        raise ZeroDivisionError("as the torture wants")

    async def _all_ready(self, *keys: int | str) -> None:
        mute = {run.number for run in self._batch.runs if BEHAVIOURS[run.behaviour].on_the_mount}
        waits = [asyncio.create_task(self._ready.events[key].wait()) for key in keys if key not in mute]
        waits += [asyncio.create_task(asyncio.sleep(MUTE_FOR)) for key in keys if key in mute]
        _, late = await asyncio.wait(waits, timeout=READY_WITHIN)
        for wait in late:
            wait.cancel()
        await asyncio.sleep(self._chance.uniform(0, JITTER))  # not for something: a moment as good as any other

    def _all_triggered(self) -> None:
        now = monotonic()
        for number in self.tasks:
            say("triggered", number, now)


class Ready:
    """The named pipe on which programs say their marks."""

    def __init__(self, folder: str, numbers: dict[str, int]) -> None:
        self.path = os.path.join(folder, "ready")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._numbers, self._cut = numbers, b""
        self.events: dict[int | str, asyncio.Event] = {name: asyncio.Event() for name in HELD}
        self.times: dict[int, float] = {}
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        *lines, self._cut = (self._cut + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            number = self._numbers.get(line.decode())
            if number is None:
                self.events[line.decode()].set()
                continue
            self.times.setdefault(number, monotonic())
            if not self.events[number].is_set():
                say("ready", number)
            self.events[number].set()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def _name_of(outcome: Any) -> str:
    if isinstance(outcome, asyncio.CancelledError):  # its cause, where there is one, has the result
        reason = getattr(outcome.__cause__, "end_reason", None)
    else:
        reason = outcome.end_reason
    return f"{type(outcome).__name__} {reason.value if reason else ''}".strip()


def _message_of(outcome: Any) -> str:
    """What its caller can read, in one line: the message of an error, and those of its causes."""
    messages = []
    while isinstance(outcome, BaseException):
        messages += [str(outcome), *getattr(outcome, "__notes__", ())]
        outcome = outcome.__cause__
    return " ".join(" ".join(messages).split())


def say(*words: object) -> None:
    """At once: this process may have no time to flush anything."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main() -> None:
    batch, token = Batch.from_json(sys.stdin.readline()), sys.stdin.readline().strip()
    folder = tempfile.gettempdir()  # of its own: see `arena.py`
    with asyncio.Runner(loop_factory=LOOPS[batch.loop]) as runner:
        runner.run(_run(batch, token, folder))


async def _run(batch: Batch, token: str, folder: str) -> None:
    backend = BACKENDS[batch.backend].make()
    if batch.trigger not in HOST_ENDS:
        await backend.__aenter__()
    await Host(batch, Marks(token), backend, folder).run()


if __name__ == "__main__":
    main()
