"""`Ending`: decides how a run is brought to its end, from facts and the time to the next act.

    running ── reason ── ASK ── grace ── KILL ── UNKILLABLE_AFTER ── GIVE_UP
       │                  └─ exit: what is left of its group has the rest of the grace ─┐
       └── exit: what it leaves has LEFTOVER_GRACE ── ASK_LEFT ── SWEEP ── … ── nothing left ── drain ── CLOSE

Pure: no clock, no signal, no descriptor. The driver of a command (a worker, or the host itself) reports what has
    happened, does what it is told, and asks again. So both end a command in the same steps.
"""

NOTHING, ASK, KILL, ASK_LEFT, SWEEP, CLOSE, GIVE_UP = range(7)
"""The acts: wait; ask the group to end; kill the group; ask leftovers to end; kill leftovers; read what is in the pipes
and report; report that something cannot be killed."""

DRAIN_TIMEOUT = 0.25  # seconds for data in the pipes after the exit, if another process holds them
UNKILLABLE_AFTER = 5.0  # seconds after KILL; only a process of another user, or in uninterruptible sleep, stays longer
HELD_AFTER = 0.5  # seconds after KILL for a child that waits for a file system before its exec, and so cannot die
SWEEP_EVERY = 0.01  # seconds between checks on processes that have been killed

_RUNNING, _ENDED, _ASKED, _KILLED, _EXITED, _LEFT_ASKED, _SWEEPING, _DRAINING, _OVER = range(9)


class Ending:
    """State machine that brings one run to its end.

    Args:
        grace: Seconds between the stop signal and KILL, for the whole group.
        leftover_grace: Seconds between the stop signal and KILL for what the program leaves after it exited by itself.
        spares: Whether processes that the program leaves when it exits by itself are spared.
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
        """Time of the program's exit in seconds of the caller's clock; -1 while it runs."""
        self.was_ended = False
        """Whether the program is being ended, rather than exiting by itself."""

    def end(self, grace: float = -1.0, held: bool = False) -> None:
        """Begin to end the program, unless it has exited or is being ended already.

        Args:
            grace: Seconds between the stop signal and KILL, if not those of the command.
            held: Whether the child has not become the program yet, so that a grace is of no use.
        """
        if self._stage == _RUNNING:
            self.was_ended = True
            self._stage = _ENDED
            if held:
                self._grace, self._unkillable_after = 0.0, HELD_AFTER
            elif grace >= 0:
                self._grace = grace

    def hurry(self) -> None:
        """Cut any grace short, so that the next act is to kill."""
        if self._stage in (_ASKED, _LEFT_ASKED):
            self._until = 0.0

    def exited(self, now: float) -> None:
        """Record that the program has exited at the time `now`, in seconds."""
        if self.exited_at < 0:
            self.exited_at = now
            if self._stage == _RUNNING:
                self._stage = _EXITED

    @property
    def wake_at(self) -> float:
        """Return the time at which to ask again after NOTHING or SWEEP even if nothing happens; -1 for never."""
        return self._until

    @property
    def in_grace(self) -> bool:
        """Return whether the group has been asked to end and has not been killed yet."""
        return self._stage == _ASKED

    @property
    def is_over(self) -> bool:
        """Return whether CLOSE or GIVE_UP has been returned, so that nothing follows."""
        return self._stage == _OVER

    def act(self, now: float, left: int, in_group: int, drained: bool) -> int:
        """Return the next act, given the facts at the time `now`.

        Args:
            now: Seconds of a monotonic clock.
            left: Number of living processes of the run, without the program.
            in_group: Number of these that are in the program's own process group.
            drained: Whether its pipes have ended.
        """
        stage = self._stage
        if stage == _EXITED:  # the path of nearly all runs, so it comes first
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
        """Return the next act during the grace, which the group keeps after the program's exit.

        A shell dies of the stop signal at once; the commands that it runs may need the grace to clean up.
        """
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
        self._grace = now + UNKILLABLE_AFTER  # from here on, the time at which to give up
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
        if left and not self._spares:  # a process that was found late
            return self._sweep(now, left, drained)
        if not drained and now < self._until:
            return NOTHING
        self._stage = _OVER
        return CLOSE

    def _give_up(self) -> int:
        self._stage = _OVER
        return GIVE_UP
