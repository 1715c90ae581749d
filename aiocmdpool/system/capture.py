"""What is kept of a captured stream. Pure: no descriptor, no loop."""

from aiocmdpool.commands.command import OutputPolicy


class Capture:
    """Collects a stream under a limit that is applied while reading, so memory stays bounded.

    With `KEEP_TAIL` up to twice the limit is held between trims: cutting the front of a `bytearray` costs a copy,
    and this way each byte is copied at most once more.
    """

    __slots__ = ("_data", "_limit", "_policy", "truncated")

    def __init__(self, limit: int | None, policy: OutputPolicy) -> None:
        self._data = bytearray()
        self._limit = limit
        self._policy = policy
        self.truncated = False

    def add(self, data: bytes) -> bool:
        """Take what was read. `False` when the limit is exceeded and the policy is to fail."""
        kept = self._data
        limit = self._limit
        if limit is None or len(kept) + len(data) <= limit:
            kept += data
            return True
        self.truncated = True
        if self._policy is OutputPolicy.KEEP_TAIL:
            kept += data
            if len(kept) > 2 * limit:
                del kept[: len(kept) - limit]
            return True
        if len(kept) < limit:
            kept += memoryview(data)[: limit - len(kept)]
        return self._policy is OutputPolicy.KEEP_HEAD

    def result(self) -> bytes:
        """Everything kept."""
        if self._limit is not None and len(self._data) > self._limit:
            return bytes(self._data[len(self._data) - self._limit :])
        return bytes(self._data)
