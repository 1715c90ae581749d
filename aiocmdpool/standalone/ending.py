"""Decides how a run is brought to its end: facts and the time in, the next act out.

    running ── reason ── ASK ── grace ── KILL ── UNKILLABLE_AFTER ── GIVE_UP
       │                  └─ exit: what is left of its group has the rest of the grace ─┐
       └── exit: what it leaves has LEFTOVER_GRACE ── ASK_LEFT ── SWEEP ── … ── nothing left ── drain ── CLOSE

Pure: no clock, no signal, no descriptor. Whoever runs a command (a worker, the host itself) tells this machine what has
happened, does what it answers, and asks again. So both end a command in the same steps.
"""

NOTHING, ASK, KILL, ASK_LEFT, SWEEP, CLOSE, GIVE_UP = range(7)
"""The acts: wait; ask the group to end; kill the group; ask what is left to end; kill what is left; take what is in the
pipes and report; report that something cannot be killed."""

DRAIN_TIMEOUT = 0.25  # seconds for what is still in the pipes after the exit, when somebody else holds them
UNKILLABLE_AFTER = 5.0  # seconds after KILL; who may not be signalled, or sleeps uninterruptibly, stays longer
HELD_AFTER = 0.5  # the same for a child that a silent file system has kept from becoming the program: it does not end
SWEEP_EVERY = 0.01  # seconds between looks at what has been killed and is not gone

_RUNNING, _ENDED, _ASKED, _KILLED, _EXITED, _LEFT_ASKED, _SWEEPING, _DRAINING, _OVER = range(9)


class Ending:
    """The way of one run to its end.

    Args:
        grace: Seconds between the stop signal and KILL, for the whole group.
        leftover_grace: Seconds between the stop signal and KILL for what the program leaves after it exited by itself.
        spares: Whether what it leaves by exiting by itself is left alone.
    """

    __slots__ = (
        "_grace",
        "_leftover_grace",
        "_spares",
        "_stage",
        "_unkillable_after",
        "_until",
        "exited_at",
        "was_ended",
    )

    def __init__(self, grace: float, leftover_grace: float, spares: bool = False) -> None:
        self._grace = grace
        self._leftover_grace = leftover_grace
        self._spares = spares
        self._unkillable_after = UNKILLABLE_AFTER
        self._stage = _RUNNING
        self._until = -1.0
        self.exited_at = -1.0
        """When the program exited; -1 while it runs."""
        self.was_ended = False
        """Whether it is ended, rather than exited by itself."""

    def end(self, grace: float = -1.0, held: bool = False) -> None:
        """Begin to end the program, unless it has exited or is being ended.

        Args:
            grace: Seconds between the stop signal and KILL, if not those of the command.
            held: Whether it has not become the program, so that there is nobody to give a grace to.
        """
        if self._stage == _RUNNING:
            self.was_ended = True
            self._stage = _ENDED
            if held:
                self._grace, self._unkillable_after = 0.0, HELD_AFTER
            elif grace >= 0:
                self._grace = grace

    def hurry(self) -> None:
        """Kill at the next act what still has a grace."""
        if self._stage in (_ASKED, _LEFT_ASKED):
            self._until = 0.0

    def exited(self, now: float) -> None:
        """Note that the program has exited."""
        if self.exited_at < 0:
            self.exited_at = now
            if self._stage == _RUNNING:
                self._stage = _EXITED

    @property
    def wake_at(self) -> float:
        """When to ask again though nothing has happened, after NOTHING or SWEEP; -1 for never."""
        return self._until

    @property
    def in_grace(self) -> bool:
        """Whether the group has been asked to end and has not been killed yet."""
        return self._stage == _ASKED

    @property
    def is_over(self) -> bool:
        """Whether CLOSE or GIVE_UP has been answered."""
        return self._stage == _OVER

    def act(self, now: float, left: int, in_group: int, drained: bool) -> int:
        """Return the next act.

        Args:
            now: Seconds of a monotonic clock.
            left: Number of its processes that live, its program apart.
            in_group: How many of these are in the program's own process group.
            drained: Whether its pipes have ended.
        """
        stage = self._stage
        if stage == _EXITED:  # the way of nearly all runs, so it comes first
            if not left or self._spares:
                return self._drain(now, drained)
            self._stage, self._until = _LEFT_ASKED, now + self._leftover_grace
            return ASK_LEFT
        if stage == _ENDED:
            self._stage, self._until = _ASKED, now + self._grace
            return ASK
        if stage == _ASKED:
            return self._grace_passes(now, left, in_group, drained)
        if stage == _KILLED:
            return self._wait_for_death(now, left, drained)
        if stage == _LEFT_ASKED:
            if not left:
                return self._drain(now, drained)
            return self._sweep(now, left, drained) if now >= self._until else NOTHING
        if stage == _SWEEPING:
            return self._sweep_on(now, left, drained)
        if stage == _DRAINING:
            return self._drain_on(now, left, drained)
        return NOTHING

    def _grace_passes(self, now: float, left: int, in_group: int, drained: bool) -> int:
        """A shell dies of the stop signal at once; what it runs may need the grace to clean up."""
        if self.exited_at >= 0:
            return NOTHING if in_group and now < self._until else self._sweep(now, left, drained)
        if now < self._until:
            return NOTHING
        self._stage, self._until = _KILLED, now + self._unkillable_after
        return KILL

    def _wait_for_death(self, now: float, left: int, drained: bool) -> int:
        if self.exited_at >= 0:
            return self._sweep(now, left, drained)
        return self._give_up() if now >= self._until else NOTHING

    def _sweep(self, now: float, left: int, drained: bool) -> int:
        if not left:
            return self._drain(now, drained)
        self._stage = _SWEEPING
        self._grace = now + UNKILLABLE_AFTER  # the grace is over; from here on it is when to give up
        self._until = now + SWEEP_EVERY
        return SWEEP

    def _sweep_on(self, now: float, left: int, drained: bool) -> int:
        if not left:
            return self._drain(now, drained)
        if now >= self._grace:
            return self._give_up()
        self._until = now + SWEEP_EVERY
        return SWEEP

    def _drain(self, now: float, drained: bool) -> int:
        if drained:
            self._stage = _OVER
            return CLOSE
        self._stage, self._until = _DRAINING, now + DRAIN_TIMEOUT
        return NOTHING

    def _drain_on(self, now: float, left: int, drained: bool) -> int:
        if left and not self._spares:  # it came late
            return self._sweep(now, left, drained)
        if not drained and now < self._until:
            return NOTHING
        self._stage = _OVER
        return CLOSE

    def _give_up(self) -> int:
        self._stage = _OVER
        return GIVE_UP
