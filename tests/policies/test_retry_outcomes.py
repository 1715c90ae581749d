"""`Retry`: which outcomes are tried again."""

import errno

import pytest
from pool.support import named, result_of

from aiocmdpool import (
    CommandTimeout,
    ConfigError,
    EndReason,
    ExecuteError,
    IoError,
    NonZeroExit,
    OutputLimitExceeded,
    PoolClosed,
    QueueFull,
    Stdio,
    TaskCancelled,
    WorkerLost,
)
from aiocmdpool.policies import Retry

from .support import Scripted, in_fake_time


def timeout(reason):
    return CommandTimeout("too long", end_reason=reason)


def lost(**options):
    return WorkerLost("gone", command=named("a", **options))


PASSES = [
    1,
    -9,
    NonZeroExit("7"),
    timeout(EndReason.TIMEOUT),
    timeout(EndReason.IDLE_TIMEOUT),
    *[IoError("", errno=number) for number in (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY)],
    lost(idempotent=True),
]
STAYS = [
    timeout(EndReason.QUEUE_TIMEOUT),
    IoError("", errno=errno.ENOENT),
    IoError("", errno=errno.EACCES),
    IoError(""),
    lost(),
    WorkerLost("whose?"),
    OutputLimitExceeded("much"),
    QueueFull("full"),
    ExecuteError("something"),
    ValueError("somebody else's"),
]
FINAL = [TaskCancelled("no"), PoolClosed("no"), ConfigError("no")]


@pytest.mark.parametrize("outcome", PASSES, ids=repr)
@in_fake_time
async def test_a_failure_that_may_pass_is_tried_again(outcome):
    inner = Scripted(outcome, 0)
    assert (await Retry(inner).execute(named("a"))).ok
    assert len(inner.starts) == 2


@pytest.mark.parametrize("error", STAYS + FINAL, ids=repr)
@in_fake_time
async def test_any_other_failure_is_passed_on(error):
    inner = Scripted(error)
    with pytest.raises(type(error)) as caught:
        await Retry(inner).execute(named("a"))
    assert caught.value is error
    assert len(inner.starts) == 1


@pytest.mark.parametrize("error", STAYS, ids=repr)
@in_fake_time
async def test_somebody_else_may_decide(error):
    inner = Scripted(error, 0)
    assert (await Retry(inner, retry_if=lambda outcome: outcome is error).execute(named("a"))).ok


@pytest.mark.parametrize("error", FINAL, ids=repr)
@in_fake_time
async def test_some_errors_are_nobodys_to_decide(error):
    inner = Scripted(error)
    with pytest.raises(type(error)):
        await Retry(inner, retry_if=lambda outcome: True).execute(named("a"))
    assert len(inner.starts) == 1


@in_fake_time
async def test_a_result_may_be_judged_by_its_output():
    empty = [lambda command: result_of(command, stdout=b""), lambda command: result_of(command, stdout=b"here")]
    executor = Retry(Scripted(*empty), retry_if=lambda outcome: not outcome.stdout)
    assert (await executor.execute(named("a"))).stdout == b"here"


@pytest.mark.parametrize("stdin", [Stdio.INHERIT, 0])
@in_fake_time
async def test_a_start_that_failed_has_read_nothing(stdin):
    inner = Scripted(IoError("", errno=errno.EAGAIN), 0)
    assert (await Retry(inner).execute(named("a", stdin=stdin))).ok
    inner = Scripted(1, 0)
    assert (await Retry(inner, retry_if=lambda outcome: True).execute(named("a", stdin=stdin))).returncode == 1


@in_fake_time
async def test_what_is_no_result_is_no_success():
    with pytest.raises(ExecuteError, match="not a CommandResult"):
        await Retry(Scripted(lambda command: "done")).execute(named("a"))
