"""The circuits of a breaker: which command may try, and the effect of its outcome. Synchronous, given the time.

    CLOSED ── `failures` in a row ──> OPEN ── `reset_after` s ──> HALF_OPEN ── success ──> CLOSED
                                       ^                             │
                                       └────────── failure ──────────┘

Only circuits with something to remember are kept. One without news for `forget_after` seconds is as good as new and
dropped, so that keys may come and go.
"""

import dataclasses
import enum
from collections import OrderedDict
from collections.abc import Hashable


class CircuitState(enum.Enum):
    """State of a circuit: whether it lets commands through."""

    CLOSED = "closed"
    """Let all commands of the key through."""
    OPEN = "open"
    """Refuse all commands of the key."""
    HALF_OPEN = "half_open"
    """Let one command at a time through; its outcome decides."""

    def __repr__(self) -> str:
        return f"CircuitState.{self.name}"


@dataclasses.dataclass(slots=True)
class Circuit:
    """The state of the circuit of one key, and the facts that decide it."""

    heard: float
    """Time of its last failure, opening or closing."""
    failures: int = 0
    """Number of failures in a row."""
    why: str = ""
    """Text of the last failure; an error object would keep its output alive."""
    open_until: float | None = None
    """Time until which it is open; `None` if it is closed."""
    trial: int | None = None
    """Entry of the command whose outcome decides, while it runs; `None` otherwise."""
    changed: int = 0
    """The last entry before it opened or closed; outcomes of older entries do not count any more."""

    def state(self, now: float) -> CircuitState:
        if self.open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.open_until else CircuitState.HALF_OPEN


class Circuits:
    """The circuits of all keys.

    Args:
        failures: Number of failures in a row that open a circuit.
        reset_after: Seconds that a circuit stays open.
        forget_after: Seconds after which a circuit without news is forgotten.
    """

    def __init__(self, failures: int, reset_after: float, forget_after: float) -> None:
        self._failures = failures
        self._reset_after = reset_after
        self._forget_after = forget_after
        self._known: OrderedDict[Hashable, Circuit] = OrderedDict()  # in the order of `heard`
        self._last = 0  # the last entry

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, now: float) -> Circuit:
        """Return the circuit of `key` at the time `now`; a new one if it is unknown or stale."""
        return self._current(key, now) or Circuit(now)

    def count_open(self) -> int:
        """Return the number of circuits that are not closed."""
        return sum(circuit.open_until is not None for circuit in self._known.values())

    def enter(self, key: Hashable, now: float) -> int | None:
        """Let a command through and return its entry, or `None` if it is refused. Every entry must be left again."""
        circuit = self.get(key, now)
        state = circuit.state(now)
        if state is CircuitState.OPEN or circuit.trial is not None:
            return None
        self._last += 1
        if state is CircuitState.HALF_OPEN:
            circuit.trial = self._last
        return self._last

    def leave(self, key: Hashable, entry: int, now: float, failed: bool | None, why: str = "") -> CircuitState | None:
        """Record how a command ended, and return the new state of its circuit if that has changed.

        Args:
            key: The key given to `enter`.
            entry: The entry returned by `enter`.
            now: The time, in seconds.
            failed: Whether the command failed; `None` if its end counts as neither. Then a trial leaves the circuit
                half open, and the next command is the trial.
            why: The failure, for people.

        Returns:
            The new state; `None` if it has not changed.
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
        """Drop stale circuits: up to two for each one that a failure may add, so that they cannot pile up."""
        for _ in range(2):
            key, circuit = next(iter(self._known.items()), (None, None))
            if circuit is None:
                return
            if circuit.trial is not None:  # must not be dropped while the trial runs, nor block the others
                self._hear(key, circuit, now, circuit.why)
            elif self._stale(circuit, now):
                del self._known[key]
            else:
                return
