"""Wrong settings are errors when the policy is made, and each policy shows what it is set to and what it does."""

import math

import pytest

from aiocmdpool import ConfigError, ProcessBackend, policies
from aiocmdpool.policies import Admission, Backoff, CircuitBreaker, KeyLimit, RateLimit, Retry, SingleFlight

MAKE = {
    Retry: lambda executor, **options: Retry(executor, **options),
    RateLimit: lambda executor, **options: RateLimit(executor, **{"rate": 1, **options}),
    KeyLimit: lambda executor, **options: KeyLimit(executor, **{"limit": 1, **options}),
    CircuitBreaker: lambda executor, **options: CircuitBreaker(executor, **options),
    SingleFlight: lambda executor, **options: SingleFlight(executor, **options),
    Admission: lambda executor, **options: Admission(executor, **{"min_memory": 1, **options}),
}


async def answers_later(command):
    return None


@pytest.mark.parametrize(
    ("policy", "field", "value"),
    [
        *[(Retry, "attempts", value) for value in (0, -1, 2.5, "3", True, None)],
        *[(Retry, "backoff", value) for value in (-1, math.inf, math.nan, "1", None, True)],
        *[(Retry, "deadline", value) for value in (-1, math.inf, "1")],
        *[(Retry, "retry_if", value) for value in (None, 5, answers_later, ValueError("x"))],
        *[(Retry, "on_retry", value) for value in (5, answers_later)],
        *[(RateLimit, "rate", value) for value in (0, -1, math.inf, math.nan, "1", None, True)],
        *[(RateLimit, "burst", value) for value in (0, 1.5, None)],
        *[(RateLimit, "key", value) for value in ("host", 1)],
        *[(KeyLimit, "limit", value) for value in (0, 1.5, "2", None, True, {}, [1])],
        *[(KeyLimit, "key", value) for value in (None, "program", answers_later)],
        *[(CircuitBreaker, "failures", value) for value in (0, 1.5, None)],
        *[(CircuitBreaker, "reset_after", value) for value in (0, -1, math.inf, None)],
        *[(CircuitBreaker, "forget_after", value) for value in (0, -1, math.nan)],
        *[(CircuitBreaker, "failed", value) for value in (None, answers_later)],
        *[(CircuitBreaker, "key", value) for value in (None, "program")],
        *[(SingleFlight, "key", value) for value in (None, "program", answers_later)],
        *[(Admission, "min_memory", value) for value in (0, 1.5, "1G")],
        *[(Admission, "max_cpu_pressure", value) for value in (-1, 101, math.nan, "50")],
        *[(Admission, "interval", value) for value in (0, -1, math.inf, None)],
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(policy, field, value):
    with pytest.raises(ConfigError, match=rf"^{field}: .*") as caught:
        MAKE[policy](ProcessBackend(), **{field: value})
    assert caught.value.field == field
    if value not in ({}, [1]):
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("initial", -1), ("initial", "1"), ("factor", 0.5), ("factor", math.inf), ("maximum", -1), ("jitter", 1.1)],
)
def test_a_wrong_backoff_is_an_error_that_names_it(field, value):
    with pytest.raises(ConfigError, match=rf"^{field}: {value!r} is not a finite number"):
        Backoff(**{field: value})


def test_a_wrong_limit_in_a_mapping_is_named_with_its_key():
    with pytest.raises(ConfigError, match=r"limit\['ffmpeg'\]: 0 is not a whole number >= 1"):
        KeyLimit(ProcessBackend(), {"git": 1, "ffmpeg": 0})


def test_an_admission_without_a_limit_is_refused():
    with pytest.raises(ConfigError, match="neither this nor max_cpu_pressure is given"):
        Admission(ProcessBackend())


@pytest.mark.parametrize("policy", MAKE)
def test_what_has_no_execute_is_refused(policy):
    for executor in (None, object(), print):
        with pytest.raises(ConfigError, match=r"executor: .* has no execute\(command\)"):
            MAKE[policy](executor)
    with pytest.raises(ConfigError, match=r"executor: .* is a class; give an object of it"):
        MAKE[policy](ProcessBackend)


@pytest.mark.parametrize(
    ("policy", "options", "shown"),
    [
        (Retry, {"backoff": 2}, "3 attempts, Backoff(initial=2.0, factor=1, maximum=2.0, jitter=0), 0 pausing"),
        (RateLimit, {"rate": 0.5, "burst": 3}, "0.5 per second, burst 3, 0 waiting"),
        (KeyLimit, {"limit": {"git": 1}}, "{'git': 1}, 0 commands under 0 keys"),
        (CircuitBreaker, {}, "5 failures, 30 s, 0 open"),
        (SingleFlight, {}, "0 in flight for 0 callers"),
        (Admission, {"min_memory": 512 << 20}, "512 MiB available, 0 running, 0 waiting"),
    ],
)
def test_the_representation_shows_settings_and_state(policy, options, shown):
    policy_of = MAKE[policy](ProcessBackend(), **options)
    assert repr(policy_of) == f"<{policy.__name__} {shown}, around <ProcessBackend open, 0 running>>"


def test_the_door_lists_all_that_is_public():
    assert policies.__all__ == sorted(policies.__all__)
    assert all(hasattr(policies, name) for name in policies.__all__)
