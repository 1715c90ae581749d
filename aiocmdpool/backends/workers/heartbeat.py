"""`Heartbeat`: checks on a busy worker: whether it answers, has its resources, and knows its requests.

    every second ── PING ──▶ worker ── PONG: what it holds ──▶ a request that is neither held nor answered is lost
                 └─ no answer ── /proc: hung, or only starved?

Beats are counted, not seconds: silence proves nothing if this loop was blocked itself.
"""

import asyncio
import os
from collections.abc import Callable, Mapping

from aiocmdpool.backends.workers.fitness import Fitness, fitness_of, what_was_taken
from aiocmdpool.backends.workers.pending import Pending
from aiocmdpool.commands.errors import WorkerLost
from aiocmdpool.standalone.kernel.processes import vfork_child_of
from aiocmdpool.standalone.kernel.procfs import state_of
from aiocmdpool.standalone.wire import frames, messages

HEARTBEAT = 1.0  # seconds between checks on a busy worker; an idle one is left alone
STARTS_WITHIN = 5.0  # seconds at least for a worker to greet: it may wait until a child of it gets CPU time
STARVED_TIMES = 10  # multiple of `hang_after` after which a worker that gets no CPU counts as hung, too

RUNNABLE, WAITS = "R", "D"
_STATES = {
    "T": "stopped by a signal",
    "t": "stopped by a process that traces it",
    WAITS: "held by the kernel (state D)",
}


class Heartbeat:
    """The periodic checks on one worker.

    Args:
        loop: The event loop of the timer.
        pid: Process id of the worker.
        hang_after: Seconds without a sign of life after which it counts as hung.
        given: What it was started with; `None` if unknown.
        pending: The requests without an answer, by id.
        send: Sends a frame.
        lose: Called with a reason: the worker is to be killed.
        retire: Called with a reason: the worker is to finish what it has, and to be replaced.
        beside: Called at each beat while there is work: what else there is to look at.

    Attributes:
        greeted: Whether the worker has said that it takes commands.
        heard: Whether the worker has sent anything since the last beat.
        timer: The timer of the next beat; `None` while the worker has no work.
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
        retire: Callable[[str], object],
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._pid = pid
        self._hang_after = hang_after
        self._given = given
        self._pending = pending
        self._send, self._lose, self._retire, self._beside = send, lose, retire, beside
        self.greeted = self.heard = False
        self.timer: asyncio.TimerHandle | None = None
        self.silent_beats = 0  # beats since the PING that is not answered
        self._starved = False  # whether the worker is silent because it waits for CPU time
        self._cpu_before = 0.0  # CPU seconds that it had used at its last sign of life
        self._pings = 0
        self._asked: frozenset[int] = frozenset()  # the requests without an answer when the last PING was sent

    def start(self) -> None:
        """Start the timer; it stops by itself when the worker has no more work."""
        self.heard = True  # it was idle until now, so its silence means nothing
        self.timer = self._loop.call_later(HEARTBEAT, self._beat)

    def stop(self) -> None:
        """Stop the timer, if it runs."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop, and use another event loop from here on."""
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
            self._beside()
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
        if self.greeted:
            waits_for_cpu = state == WAITS and waits_for_cpu_of_child(self._pid)
        else:  # it has a second thread only while it comes up
            waits_for_cpu = has_runnable_thread(self._pid)
        if waits_for_cpu:
            state = RUNNABLE
        self._starved = state == RUNNABLE
        hang_after = self._hang_after if self.greeted else max(self._hang_after, STARTS_WITHIN)
        return hung_because(state, cpu - self._cpu_before, self.silent_beats * HEARTBEAT, hang_after)

    def _overdue(self) -> str:
        """Return a text about a deadline that the worker has missed, though it had CPU time; empty if there is none."""
        if self._starved:
            return ""
        now = self._loop.time()
        for entry in self._pending.values():
            if entry.overdue(now, HEARTBEAT):
                return f"it did not keep the deadline of {entry.command.display()}"
        return ""

    def unfit(self) -> str:
        """Return a text about a resource that the worker has lost; empty if there is none."""
        left = fitness_of(self._pid) if self._given is not None else None
        return what_was_taken(self._given, left) if self._given is not None and left is not None else ""

    # -- what it holds ----------------------------------------------------------------------------------------------

    def _ping(self) -> None:
        """Ask the worker which requests it holds. It has then read all that was sent before: frames keep order."""
        self._pings = (self._pings + 1) & 0xFFFFFFFF
        self._asked = frozenset(number for number, entry in self._pending.items() if entry.answer is None)
        self._send(frames.encode(frames.PING, self._pings))

    def answered(self, ping: int, payload: bytes) -> None:
        """Answer as lost every request that the answer to a PING does not name. Earlier answers came before it."""
        held = messages.unpack_held(payload)
        if ping != self._pings:  # a later PING has been sent, and its answer will do
            return
        lost = False
        for number in self._asked.difference(held):
            entry = self._pending.get(number)
            if entry is not None and entry.answer is None:
                lost = True
                entry.resolve(_lost_reply(entry, self._pid))
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


def has_runnable_thread(pid: int) -> bool:
    """Return whether a thread of a process runs, or waits for CPU time."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any((state_of(int(thread)) or ("",))[0] == RUNNABLE for thread in threads)


def hung_because(state: str, cpu: float, silent: float, hang_after: float) -> str:
    """Return a text why a silent worker counts as hung; empty if it does not (yet)."""
    if silent <= hang_after:
        return ""
    if state == RUNNABLE and cpu < hang_after and silent <= STARVED_TIMES * hang_after:
        return ""
    return f"it has not answered for {hang_after:g} s: hung" + (
        f", {_STATES[state]}" if state in _STATES else "" if state else ", or stopped"
    )
