"""`Heartbeat`: watches over a busy worker. Is it there, does it have what it was given, is it what it was?

    every second ── PING ──▶ worker ── PONG: what it holds ──▶ a request that is neither held nor answered is lost
                 └─ no answer ── /proc: hung, or only starved?

Beats are counted, not seconds: a loop that was blocked itself proves nothing.
"""

import asyncio
from collections.abc import Callable, Mapping

from aiocmdpool.backends.workers.fitness import Fitness, fitness_of, what_was_taken
from aiocmdpool.backends.workers.pending import Pending
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.standalone.kernel.processes import state_of, vfork_child_of
from aiocmdpool.standalone.wire import frames, messages

HEARTBEAT = 1.0  # seconds between looks at a busy worker; an idle one is left alone
STARVED_TIMES = 10  # times `hang_after`, after which a worker that gets no CPU counts as hung as well

RUNNABLE, WAITS = "R", "D"
_STATES = {
    "T": "stopped by a signal",
    "t": "stopped by a process that traces it",
    WAITS: "held by the kernel (state D)",
}


class Heartbeat:
    """The looks at one worker.

    Args:
        loop: Where it beats.
        pid: The worker's.
        hang_after: Seconds without a sign of life after which it counts as hung.
        given: What it was started with; `None` if unknown.
        pending: The requests without an answer, by id.
        send: Sends a frame.
        lose: Called with a reason: the worker is to be killed.
        retire: Called with a reason: the worker is to finish what it has, and to be replaced.

    Attributes:
        heard: Whether the worker has said anything since the last beat.
        timer: The next beat; `None` while the worker has no work.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        hang_after: float,
        given: Fitness | None,
        pending: Mapping[int, Pending],
        send: Callable[[bytes], None],
        lose: Callable[[str], None],
        retire: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._pid = pid
        self._hang_after = hang_after
        self._given = given
        self._pending = pending
        self._send, self._lose, self._retire = send, lose, retire
        self.heard = False
        self.timer: asyncio.TimerHandle | None = None
        self.silent_beats = 0  # since a PING that was not answered
        self._starved = False  # silent, and waiting for the scheduler
        self._cpu_before = 0.0  # seconds it had had at its last sign of life
        self._pings = 0
        self._asked: frozenset[int] = frozenset()  # the requests without an answer when the last PING was sent

    def start(self) -> None:
        """Begin to beat; it ends by itself when there is no more work."""
        self.heard = True  # idle until now: nothing was asked of it
        self.timer = self._loop.call_later(HEARTBEAT, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat on another loop from here on."""
        self.stop()
        self._loop = loop

    def _beat(self) -> None:
        self.timer = None
        if self._pending:
            self.timer = self._loop.call_later(HEARTBEAT, self._beat)
            if (why := self._hung() or self._overdue()) != "":
                self._lose(why)
                return
            self._ping()
        if (why := self.unfit()) != "":
            self._retire(why)

    def _hung(self) -> str:
        state, cpu, _ = state_of(self._pid) or ("", 0.0, 0)
        if self.heard:
            self.heard = False
            self.silent_beats = 0
            self._cpu_before = cpu
            self._starved = False
            return ""
        self.silent_beats += 1
        if state == WAITS and waits_for_cpu_of_child(self._pid):
            state = RUNNABLE
        self._starved = state == RUNNABLE
        return hung_because(state, cpu - self._cpu_before, self.silent_beats * HEARTBEAT, self._hang_after)

    def _overdue(self) -> str:
        """The deadline that the worker has not kept, though it could."""
        if self._starved:
            return ""
        now = self._loop.time()
        for entry in self._pending.values():
            if entry.overdue(now, HEARTBEAT):
                return f"it did not keep the deadline of {entry.command.display()}"
        return ""

    def unfit(self) -> str:
        """What has been taken from the worker, empty if nothing."""
        left = fitness_of(self._pid) if self._given is not None else None
        return what_was_taken(self._given, left) if self._given is not None and left is not None else ""

    # -- what it holds ----------------------------------------------------------------------------------------------

    def _ping(self) -> None:
        """Ask what it holds. Frames keep their order: it will have read all that was sent before."""
        self._pings = (self._pings + 1) & 0xFFFFFFFF
        self._asked = frozenset(number for number, entry in self._pending.items() if entry.answer is None)
        self._send(frames.encode(frames.PING, self._pings))

    def answered(self, ping: int, payload: bytes) -> None:
        """A PONG has come. All that was answered before has arrived before."""
        held = messages.unpack_held(payload)
        if ping != self._pings:  # a later PING is on its way, and will be answered for this one
            return
        lost = False
        for number in self._asked.difference(held):
            entry = self._pending.get(number)
            if entry is not None and entry.answer is None:
                lost = True
                entry.settle(_lost_reply(entry, self._pid))
        if lost:
            self._retire("replies of it were lost: somebody else reads its pipes")


def _lost_reply(entry: Pending, pid: int) -> WorkerLost:
    return WorkerLost(
        f"{entry.command.display()}: its reply was lost; its worker (pid {pid}) does not know of it any more, so "
        "somebody else reads the worker's pipes; the command may have run",
        command=entry.command,
    )


def waits_for_cpu_of_child(pid: int) -> bool:
    """Return whether a worker stands still because the program that it is starting gets no CPU."""
    child = vfork_child_of(pid)
    return child is not None and child.state == RUNNABLE.encode()


def hung_because(state: str, cpu: float, silent: float, hang_after: float) -> str:
    """Why a silent worker counts as hung; empty if it does not (yet).

    One that can run, and has not been let run for long enough to answer, waits for the scheduler: a machine is crowded,
    a control group has used its quota. Even that has an end.

    Args:
        state: The letter in /proc (proc_pid_stat(5)); empty if unknown.
        cpu: Seconds of CPU time that it has had since its last sign of life.
        silent: Seconds since the first PING that it has not answered.
        hang_after: Seconds it may take.
    """
    if silent <= hang_after:
        return ""
    if state == RUNNABLE and cpu < hang_after and silent <= STARVED_TIMES * hang_after:
        return ""
    return f"it has not answered for {hang_after:g} s: hung" + (
        f", {_STATES[state]}" if state in _STATES else "" if state else ", or stopped"
    )
