"""When failures end the run: `--halt`, in the words of GNU parallel. Decisions only."""

import dataclasses
import enum
import re

MIN_FAILURES_FOR_PERCENT = 3  # below that a percentage says nothing; GNU parallel's number


class HaltAction(enum.Enum):
    """What happens once enough commands have failed."""

    NEVER = "never"
    """Run everything."""
    SOON = "soon"
    """Start no more commands; those running finish."""
    NOW = "now"
    """Start no more commands and end those running."""


@dataclasses.dataclass(frozen=True, slots=True)
class HaltPolicy:
    """An action and the failures that call for it: a number of them, or a percentage of the finished commands."""

    action: HaltAction = HaltAction.NEVER
    failures: int = 1
    percent: float | None = None
    """Instead of `failures`, once three commands have failed."""

    def reached(self, failed: int, finished: int) -> bool:
        """Whether so many failures among so many finished commands call for the action."""
        if self.action is HaltAction.NEVER or failed == 0:
            return False
        if self.percent is None:
            return failed >= self.failures
        return failed >= MIN_FAILURES_FOR_PERCENT and failed * 100 >= self.percent * finished


_POLICY = re.compile(r"(now|soon)(?:,fail=([0-9]+)(%?))?")


NEVER = HaltPolicy()


def parse_halt(text: str) -> HaltPolicy:
    """The policy that `--halt text` asks for.

    Raises:
        ValueError: The text is none; the message says what is allowed.
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
