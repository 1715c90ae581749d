"""What runs, and how it ends."""

import dataclasses

TIMEOUT = 0.5  # seconds until a peer ends the command
NO_TIMEOUT = 60.0  # seconds; longer than any measurement


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """One column of the table."""

    name: str
    heading: str
    script: str
    """For `sh -c`, with `{mark}` for the duration. `true` in the end keeps a shell from becoming its last program."""
    host_killed: bool = False
    """The process that called the peer is killed while the program runs; otherwise it is a timeout."""

    @property
    def timeout(self) -> float:
        """For the peer, in seconds."""
        return NO_TIMEOUT if self.host_killed else TIMEOUT


PLAIN = "sleep {mark} & sleep {mark}; true"
_ALL = (
    Scenario("plain", "a child in the background", PLAIN),
    Scenario("setsid", "which did setsid", f"setsid {PLAIN}"),
    Scenario("ignores-term", "all ignore TERM", f"trap '' TERM; {PLAIN}"),
    Scenario("host-killed", "caller killed with -9", PLAIN, host_killed=True),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}
PROGRAMS = 3  # marked processes of each script: the shell, whose arguments contain the script, and two sleeps
