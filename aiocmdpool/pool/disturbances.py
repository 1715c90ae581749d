"""`Disturbances`: what executors and hooks do to a pool that they must not; for `health`."""

from time import monotonic

RECENT = 600.0  # seconds for which the last one is told of; pretty arbitrary


class Disturbances:
    """Counts them, and remembers the last."""

    __slots__ = ("_at", "_last", "count")

    def __init__(self) -> None:
        self.count = 0
        self._last = ""
        self._at = 0.0

    def note(self, what: str, failure: BaseException | None = None) -> None:
        """Note one more.

        Args:
            what: Was done, for people.
            failure: What was raised, told behind that; its `repr` is other people's as well.
        """
        self.count += 1
        if failure is not None:
            try:
                what = f"{what} {failure!r}"
            except Exception:
                what = f"{what} {type(failure).__name__}"
        self._last, self._at = what, monotonic()

    def recent(self) -> str | None:
        """What to tell of them, if the last is not long ago."""
        if not self.count or monotonic() - self._at > RECENT:
            return None
        return f"executors or hooks have disturbed the pool {self.count} times; the last time, {self._last}"
