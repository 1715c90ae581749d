"""`Backoff`: the pauses between attempts."""

import dataclasses
import random

from aiocmdpool.commands import validate
from aiocmdpool.commands.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow by a factor up to a maximum, each shortened by a random part of itself.

    Example:
        >>> [Backoff(0.5, factor=2, maximum=3, jitter=0).pause(number) for number in (1, 2, 3, 4)]
        [0.5, 1.0, 2.0, 3.0]

    Raises:
        ConfigError: A field is wrong.
    """

    initial: float = 0.5
    """Seconds of the pause before the second attempt."""
    _: dataclasses.KW_ONLY
    factor: float = 2.0
    """Factor of each pause to the one before; 1 for pauses of one length."""
    maximum: float = 30.0
    """Most seconds of a pause."""
    jitter: float = 0.5
    """Fraction of a pause that is random, 0 to 1: commands that failed together must not come back together."""

    def __post_init__(self) -> None:
        validate.number(0)("initial", self.initial)
        validate.number(1)("factor", self.factor)
        validate.number(0)("maximum", self.maximum)
        validate.number(0, 1)("jitter", self.jitter)

    def pause(self, number: int) -> float:
        """Return the seconds to wait after attempt `number`, the first being 1."""
        try:
            longest = min(self.maximum, self.initial * float(self.factor) ** (number - 1))
        except OverflowError:  # of the power, after some hundred attempts
            longest = self.maximum if self.initial else 0.0
        return longest * (1 - self.jitter * random.random())


def clean_backoff(name: str, value: object) -> Backoff:
    """Return `value` if it is a `Backoff`; for a number of seconds, a `Backoff` of that many each time."""
    if isinstance(value, Backoff):
        return value
    try:
        seconds = validate.number(0)(name, value)
    except ConfigError:
        message = f"{name}: {validate.shown(value)} is neither a Backoff nor a finite number of seconds >= 0"
        raise ConfigError(message, field=name) from None
    return Backoff(seconds, factor=1, maximum=seconds, jitter=0)
