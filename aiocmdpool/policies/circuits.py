"""The circuits of a breaker: who may try, and what an outcome changes. Synchronous, and told the time.

    CLOSED ── `failures` in a row ──> OPEN ── `reset_after` s ──> HALF_OPEN ── success ──> CLOSED
                                       ^                             │
                                       └────────── failure ──────────┘

Only circuits with something to remember are kept. One about which nothing was heard for `forget_after` seconds is as
good as new and dropped, so that keys may come and go.
"""

import dataclasses
import enum
from collections import OrderedDict
from collections.abc import Hashable


class CircuitState(enum.Enum):
    """Whether a circuit lets commands through."""

    CLOSED = "closed"
    """All of them."""
    OPEN = "open"
    """None."""
    HALF_OPEN = "half_open"
    """One at a time, whose outcome decides."""

    def __repr__(self) -> str:
        return f"CircuitState.{self.name}"


@dataclasses.dataclass(slots=True)
class Circuit:
    """What is known under one key."""

    heard: float
    """When it last failed, opened or closed."""
    failures: int = 0
    """In a row."""
    why: str = ""
    """The last failure. Text, since an error would keep its output alive."""
    open_until: float | None = None
    """`None`: closed."""
    trial: int | None = None
    """The entry whose outcome decides, while it runs."""
    changed: int = 0
    """The last entry before it opened or closed: what such entries end with is old news."""

    def state(self, now: float) -> CircuitState:
        if self.open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.open_until else CircuitState.HALF_OPEN


class Circuits:
    """The circuits of all keys.

    Args:
        failures: How many in a row open a circuit.
        reset_after: Seconds it stays open.
        forget_after: Seconds after which what was heard about it no longer counts.
    """

    def __init__(self, failures: int, reset_after: float, forget_after: float) -> None:
        self._failures = failures
        self._reset_after = reset_after
        self._forget_after = forget_after
        self._known: OrderedDict[Hashable, Circuit] = OrderedDict()  # by `heard`
        self._last = 0  # entry

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, now: float) -> Circuit:
        """The circuit as it stands."""
        return self._current(key, now) or Circuit(now)

    def count_open(self) -> int:
        """How many are not closed."""
        return sum(circuit.open_until is not None for circuit in self._known.values())

    def enter(self, key: Hashable, now: float) -> int | None:
        """Let a command through and return its entry, or `None`: not now. Every entry is left again."""
        circuit = self.get(key, now)
        state = circuit.state(now)
        if state is CircuitState.OPEN or circuit.trial is not None:
            return None
        self._last += 1
        if state is CircuitState.HALF_OPEN:
            circuit.trial = self._last
        return self._last

    def leave(self, key: Hashable, entry: int, now: float, failed: bool | None, why: str = "") -> CircuitState | None:
        """Take note of how a command ended.

        Args:
            key: As in `enter`.
            entry: What `enter` gave.
            now: The time.
            failed: Whether it did; `None` where its end says nothing. A trial that says nothing leaves the circuit
                half open, and the next command is the trial.
            why: The failure, for people.

        Returns:
            The state it has changed to, if it has.
        """
        circuit = self._current(key, now)
        if circuit is not None and circuit.trial == entry:
            circuit.trial = None
            if failed is None:
                return None
            return self._open(key, circuit, now, why) if failed else self._close(key, circuit, now)
        if failed is None or (circuit is not None and entry <= circuit.changed):
            return None
        if failed:
            return self._fail(key, now, why)
        if circuit is not None:
            circuit.failures = 0
        return None

    def _fail(self, key: Hashable, now: float, why: str) -> CircuitState | None:
        self._forget(now)
        circuit = self._known.setdefault(key, Circuit(now))
        circuit.failures += 1
        if circuit.failures >= self._failures:
            return self._open(key, circuit, now, why)
        self._hear(key, circuit, now, why)
        return None

    def _open(self, key: Hashable, circuit: Circuit, now: float, why: str) -> CircuitState:
        circuit.open_until = now + self._reset_after
        circuit.changed = self._last
        self._hear(key, circuit, now, why)
        return CircuitState.OPEN

    def _close(self, key: Hashable, circuit: Circuit, now: float) -> CircuitState:
        circuit.open_until, circuit.failures = None, 0
        circuit.changed = self._last
        self._hear(key, circuit, now, "")
        return CircuitState.CLOSED

    def _hear(self, key: Hashable, circuit: Circuit, now: float, why: str) -> None:
        circuit.heard, circuit.why = now, why
        self._known.move_to_end(key)

    def _current(self, key: Hashable, now: float) -> Circuit | None:
        circuit = self._known.get(key)
        if circuit is not None and self._stale(circuit, now):
            del self._known[key]
            return None
        return circuit

    def _stale(self, circuit: Circuit, now: float) -> bool:
        since = circuit.heard if circuit.open_until is None else circuit.open_until
        return circuit.trial is None and now > since + self._forget_after

    def _forget(self, now: float) -> None:
        """Drop what nobody has heard of for long: two for each one that a failure may add, so they cannot pile up."""
        for _ in range(2):
            key, circuit = next(iter(self._known.items()), (None, None))
            if circuit is None:
                return
            if circuit.trial is not None:  # not to be dropped while that runs, and not to be in the way
                self._hear(key, circuit, now, circuit.why)
            elif self._stale(circuit, now):
                del self._known[key]
            else:
                return
