"""`OutputOrder`: decides whose output may be written: one after the other (`--keep-order`), or all as it comes."""

from collections import deque
from collections.abc import Callable

from aiocmdpool.cli.output.spool import Spool
from aiocmdpool.cli.output.writer import Output

MAX_AHEAD = 10_000  # finished commands waiting for an earlier one, above which no new ones start
MAX_HELD = 64 * 1024 * 1024  # bytes of memory for their output, likewise
MAX_HELD_FILES = 32  # files of their large output, likewise; each takes a descriptor
MAX_HELD_LIVE = 1024 * 1024  # bytes held of one running command, above which it has to wait


class Slot:
    """The place of one command in the order of the output."""

    __slots__ = ("_held", "_on_turn", "_order", "finished", "held_bytes", "held_files", "is_turn")

    def __init__(self, order: "OutputOrder", is_turn: bool) -> None:
        self.is_turn = is_turn
        self.finished = False
        self.held_bytes = 0
        self.held_files = 0
        self._order = order
        self._held: list[tuple[int, bytes | Spool]] = []
        self._on_turn: list[Callable[[], object]] = []

    def write(self, fd: int, data: bytes | Spool) -> None:
        """Write `data` to `fd` now or, before its turn, later."""
        if self.is_turn:
            self._order.output.write(fd, data)
        elif isinstance(data, bytes):
            self._hold(fd, data, len(data), 0)
        else:
            self._hold(fd, data, 0 if data.is_file else data.size, int(data.is_file))

    def _hold(self, fd: int, data: bytes | Spool, size: int, files: int) -> None:
        if not (size or files):
            return
        self._held.append((fd, data))
        self.held_bytes += size
        self.held_files += files
        self._order.held_bytes += size
        self._order.held_files += files

    @property
    def is_congested(self) -> bool:
        """Return whether the command has to wait before it writes more."""
        if self.is_turn:
            return self._order.output.is_congested
        return self.held_bytes > MAX_HELD_LIVE or self.held_files > 0

    def when_clear(self, callback: Callable[[], object]) -> None:
        """Call `callback`, once, when `is_congested` may have changed."""
        if self.is_turn:
            self._order.output.when_low(callback)
        else:
            self._on_turn.append(callback)

    def release(self) -> None:
        """Write the held output, and from now on write at once."""
        self.is_turn = True
        held, self._held = self._held, []
        self._order.held_bytes -= self.held_bytes
        self._order.held_files -= self.held_files
        self.held_bytes = self.held_files = 0
        for fd, data in held:
            self._order.output.write(fd, data)
        callbacks, self._on_turn = self._on_turn, []
        for callback in callbacks:
            callback()


class OutputOrder:
    """Assigns slots to commands, and passes the turn from one to the next.

    Args:
        output: The writer of all output.
        keep_order: Whether slots take turns in the order of `enter`; otherwise all have their turn at once.
        on_room: Called whenever a slot that blocked others is finished.
    """

    def __init__(self, output: Output, *, keep_order: bool, on_room: Callable[[], None]) -> None:
        self.output = output
        self.held_bytes = 0
        self.held_files = 0
        self._keep_order = keep_order
        self._on_room = on_room
        self._waiting: deque[Slot] = deque()

    def enter(self) -> Slot:
        """Return the slot of the next command."""
        slot = Slot(self, is_turn=not self._keep_order or not self._waiting)
        if self._keep_order:
            self._waiting.append(slot)
        return slot

    def finish(self, slot: Slot) -> None:
        """Note that the command of `slot` writes no more, and pass the turn on."""
        slot.finished = True
        if not self._keep_order or not self._waiting[0].finished:
            return
        while self._waiting and self._waiting[0].finished:
            self._waiting.popleft()
            if self._waiting:
                self._waiting[0].release()
        self._on_room()

    @property
    def is_congested(self) -> bool:
        """Return whether so much output waits for its turn that no new command should be started."""
        return len(self._waiting) > MAX_AHEAD or self.held_bytes > MAX_HELD or self.held_files >= MAX_HELD_FILES
