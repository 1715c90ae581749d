"""One measurement, asked for and answered: what travels between the harness and a runner process, as JSON."""

import dataclasses
import json
from typing import Any, Self


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What a runner process is to measure."""

    contender: str
    workload: str
    in_flight: int
    heap: int = 0
    """Bytes that are resident in the runner meanwhile."""
    seconds: float = 0.7
    """How long commands are counted, without the heartbeat."""
    lag_seconds: float = 0.4
    """How long, after that, the heartbeat runs beside the commands."""

    @property
    def cell(self) -> tuple[str, int, int]:
        """What has to be equal for two contenders to be compared: workload, number in flight, heap."""
        return self.workload, self.in_flight, self.heap

    def to_json(self) -> str:
        """For the command line of the runner."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What a runner process measured; `None` where the contender has no such figure."""

    rate: float
    """Commands a second."""
    cpu: float | None = None
    """CPU seconds of the runner itself for each command, user and system, children and workers not included."""
    worker_cpu: float | None = None
    """CPU seconds of all resident workers together for each command, what they start not included."""
    lag_p50: float | None = None
    """Seconds by which the heartbeat was late."""
    lag_p99: float | None = None
    lag_max: float | None = None

    def to_json(self) -> str:
        """One line, for stdout of the runner."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """From decoded JSON."""
        return cls(**fields)
