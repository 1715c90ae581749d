"""Whose output may be written now: `--keep-order`, or everybody's as it comes."""

from collections import deque
from collections.abc import Callable

from aiocmdpool.cli.output.writer import Output

MAX_AHEAD = 10_000  # finished commands that wait for an earlier one; above it, no new commands
MAX_HELD = 64 * 1024 * 1024  # bytes of their output, likewise
MAX_HELD_LIVE = 1024 * 1024  # bytes held of one command that is still running; above it, it has to wait


class Slot:
    """The place of one command in the order of the output."""

    __slots__ = ("_held", "_on_turn", "_turns", "finished", "held_bytes", "is_turn")

    def __init__(self, turns: "Turns", is_turn: bool) -> None:
        self.is_turn = is_turn
        self.finished = False
        self.held_bytes = 0
        self._turns = turns
        self._held: list[tuple[int, bytes]] = []
        self._on_turn: list[Callable[[], object]] = []

    def write(self, fd: int, data: bytes) -> None:
        """Write now or, before its turn, later."""
        if self.is_turn:
            self._turns.output.write(fd, data)
        elif data:
            self._held.append((fd, data))
            self.held_bytes += len(data)
            self._turns.held_bytes += len(data)

    @property
    def is_congested(self) -> bool:
        """Whether the command should be made to wait before it writes more."""
        return self._turns.output.is_congested if self.is_turn else self.held_bytes > MAX_HELD_LIVE

    def when_clear(self, callback: Callable[[], object]) -> None:
        """Call back, once, when that may have changed."""
        if self.is_turn:
            self._turns.output.when_low(callback)
        else:
            self._on_turn.append(callback)

    def take_turn(self) -> None:
        """Write what was held, and from now on at once."""
        self.is_turn = True
        held, self._held = self._held, []
        self._turns.held_bytes -= self.held_bytes
        self.held_bytes = 0
        for fd, data in held:
            self._turns.output.write(fd, data)
        callbacks, self._on_turn = self._on_turn, []
        for callback in callbacks:
            callback()


class Turns:
    """Hands out slots, and the turn from one to the next.

    Args:
        output: Where it all goes.
        keep_order: One after the other, in the order of `enter`; otherwise it is everybody's turn.
        on_room: Called whenever a slot that held others up is gone.
    """

    def __init__(self, output: Output, *, keep_order: bool, on_room: Callable[[], None]) -> None:
        self.output = output
        self.held_bytes = 0
        self._keep_order = keep_order
        self._on_room = on_room
        self._waiting: deque[Slot] = deque()

    def enter(self) -> Slot:
        """The slot of the next command."""
        slot = Slot(self, is_turn=not self._keep_order or not self._waiting)
        if self._keep_order:
            self._waiting.append(slot)
        return slot

    def finish(self, slot: Slot) -> None:
        """The command of this slot writes no more."""
        slot.finished = True
        if not self._keep_order or not self._waiting[0].finished:
            return
        while self._waiting and self._waiting[0].finished:
            self._waiting.popleft()
            if self._waiting:
                self._waiting[0].take_turn()
        self._on_room()

    @property
    def is_congested(self) -> bool:
        """Whether so much waits for its turn that no new command should be started."""
        return len(self._waiting) > MAX_AHEAD or self.held_bytes > MAX_HELD
