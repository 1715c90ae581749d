"""Policies: executors that wrap an executor and add one rule to it. They can be combined in any order.

    CommandPool(executor=Retry(CircuitBreaker(KeyLimit(backend, 2))))

Each has `execute(command)` and, if the wrapped executor has it, `open(command)`; no lifecycle, no base class to
inherit.
None closes the executor that it wraps; the maker of that closes it. An outer policy sees an inner one as one run: a
`Retry` around a `RateLimit` makes each attempt wait for its start, a `Retry` inside of one does not.
"""

from aiocmdpool.commands.public import publish as _publish
from aiocmdpool.policies.admission import Admission
from aiocmdpool.policies.backoff import Backoff
from aiocmdpool.policies.circuit_breaker import CircuitBreaker
from aiocmdpool.policies.circuits import CircuitState
from aiocmdpool.policies.classify import Outcome, failed, may_pass
from aiocmdpool.policies.key_limit import KeyLimit
from aiocmdpool.policies.keys import by_host, by_program
from aiocmdpool.policies.rate_limit import RateLimit
from aiocmdpool.policies.retry import FailedAttempt, Retry
from aiocmdpool.policies.single_flight import SingleFlight, same_command

__all__ = [
    "Admission",
    "Backoff",
    "CircuitBreaker",
    "CircuitState",
    "FailedAttempt",
    "KeyLimit",
    "Outcome",
    "RateLimit",
    "Retry",
    "SingleFlight",
    "by_host",
    "by_program",
    "failed",
    "may_pass",
    "same_command",
]

_publish(__all__, globals())
