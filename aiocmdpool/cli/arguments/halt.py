"""`HaltPolicy`: when failures end the run (`--halt`), in the words of GNU parallel. Decisions only."""

import dataclasses
import enum
import re

MIN_FAILURES_FOR_PERCENT = 3  # below that a percentage says little; GNU parallel's number


class HaltAction(enum.Enum):
    """The action that follows once enough commands have failed."""

    NEVER = "never"
    """Run all commands, however many fail."""
    SOON = "soon"
    """Start no more commands; running ones finish."""
    NOW = "now"
    """Start no more commands, and end running ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class HaltPolicy:
    """An action, and the failures that trigger it: a number, or a percentage of the finished commands."""

    action: HaltAction = HaltAction.NEVER
    failures: int = 1
    percent: float | None = None
    """Percentage to use instead of `failures`, once three commands have failed; `None` for `failures`."""

    def reached(self, failed: int, finished: int) -> bool:
        """Return whether `failed` failures among `finished` commands trigger the action."""
        if self.action is HaltAction.NEVER or failed == 0:
            return False
        if self.percent is None:
            return failed >= self.failures
        return failed >= MIN_FAILURES_FOR_PERCENT and failed * 100 >= self.percent * finished


_POLICY = re.compile(r"(now|soon)(?:,fail=([0-9]+)(%?))?")


NEVER = HaltPolicy()


def parse_halt(text: str) -> HaltPolicy:
    """Return the policy that the option `--halt` with this text asks for.

    Raises:
        ValueError: The text is no policy; the message says what is allowed.
    """
    if text == "never":
        return NEVER
    match = _POLICY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is none of never, now, soon, now,fail=N, soon,fail=N, now,fail=N%, soon,fail=N%")
    action, number, percent = HaltAction(match[1]), int(match[2] or 1), bool(match[3])
    if number == 0 or (percent and number > 100):
        raise ValueError(f"{text!r}: the number of failures starts at 1, a percentage ends at 100")
    return HaltPolicy(action, percent=number) if percent else HaltPolicy(action, number)
