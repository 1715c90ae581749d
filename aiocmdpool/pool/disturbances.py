"""`Disturbances`: a record, for `health`, of what executors and hooks did to a pool against their contract."""

from time import monotonic

RECENT = 600.0  # seconds for which the last one is reported; pretty arbitrary


class Disturbances:
    """The number of breaches of contract by executors and hooks, and a description of the last one."""

    __slots__ = ("_at", "_last", "count")

    def __init__(self) -> None:
        self.count = 0
        self._last = ""
        self._at = 0.0

    def note(self, what: str, failure: BaseException | None = None) -> None:
        """Count one more breach and remember it as the last.

        Args:
            what: Description of the event, for people.
            failure: The exception, if any, shown after it; its `repr` may itself raise.
        """
        self.count += 1
        if failure is not None:
            try:
                what = f"{what} {failure!r}"
            except Exception:
                what = f"{what} {type(failure).__name__}"
        self._last, self._at = what, monotonic()

    def recent(self) -> str | None:
        """Return a report of all breaches if the last one is at most `RECENT` seconds old; `None` otherwise."""
        if not self.count or monotonic() - self._at > RECENT:
            return None
        return f"executors or hooks have disturbed the pool {self.count} times; the last time, {self._last}"
