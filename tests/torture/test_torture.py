"""The short form: each behaviour once by each trigger, a few schedules, and a look at whether the suite sees anything.

How fast things die is measured by `python -m tests.torture`, not here: a busy machine is no failure.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from contract.support import FOREVER

from .arena import Arena
from .backends import BACKENDS
from .behaviours import BEHAVIOURS, MARK_NAME, STAY
from .plan import Selection, make_batches
from .run_bytes import lost_bytes
from .scenery import scenery
from .schedules import make_terms, run_schedules
from .settings import lost_with_settings
from .survivors import Marks

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.one_loop]

SEED = 4
GRACE = 0.15  # seconds
HOSTS = 3
SCHEDULES = 4  # the last of which has few descriptors

each_backend = pytest.mark.parametrize("backend", BACKENDS)


MIXED = tuple(name for name, behaviour in BEHAVIOURS.items() if not behaviour.family)
APART = tuple(name for name, behaviour in BEHAVIOURS.items() if behaviour.family)


@pytest.fixture(scope="module", autouse=True)
def _scenery() -> Iterator[None]:
    with scenery(unprivileged=os.geteuid() != 0):
        yield


async def fight_once(selection: Selection, backend: str) -> None:
    """Let each behaviour meet each trigger of a selection once, and see that all is well."""
    cells = len(list(selection.cells(backend)))
    batches = make_batches(selection, cells, len(BEHAVIOURS), GRACE, SEED)
    fights = await Arena(Marks(), HOSTS).fight(batches)
    assert sum(len(fight.fates) for fight in fights) == cells
    wrong = [(fight.batch.trigger, text) for fight in fights for text in fight.survivors() + fight.complaints()]
    assert wrong == []


@each_backend
async def test_nothing_outlives_its_owner(backend: str) -> None:
    await fight_once(Selection(MIXED, backends=(backend,)), backend)


@each_backend
@pytest.mark.parametrize("behaviour", APART)
async def test_nothing_outlives_its_owner_and_no_neighbour_is_lost(backend: str, behaviour: str) -> None:
    selection = Selection((behaviour,), ("cancel", "timeout"), (backend,))
    if not list(selection.cells(backend)):
        pytest.skip("is not promised by this backend, or takes what is not here: fusepy and root, or being nobody")
    await fight_once(selection, backend)


@each_backend
async def test_no_command_with_settings_is_lost(backend: str) -> None:
    assert await lost_with_settings(backend, 500, SEED) == []


@each_backend
async def test_the_books_balance_whatever_happens(backend: str) -> None:
    marks = Marks()
    terms = make_terms(Selection(backends=(backend,)), SCHEDULES, SEED, marks)
    verdicts = await run_schedules(terms, marks, HOSTS)
    assert len(verdicts) == SCHEDULES
    assert [str(verdict) for verdict in verdicts if verdict.wrong] == []


@each_backend
async def test_no_byte_of_fast_exits_is_lost(backend: str) -> None:
    assert await lost_bytes(backend, 1000, SEED) == []


@pytest.mark.parametrize("behaviour", ["main_thread_gone_escaped", "daemonize_anonymously", "fork_chain_of_sessions"])
async def test_a_survivor_would_be_seen(behaviour: str, ready: Any) -> None:
    """A suite that sees nothing proves nothing."""
    if not BEHAVIOURS[behaviour].available:
        pytest.skip("there is no Perl with a POSIX module here")
    marks = Marks()
    argv = BEHAVIOURS[behaviour].argv(ready.path, marks.of(1), STAY)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as leader:
        try:
            assert (await ready.wait()).decode() == marks.of(1)
            assert leader.pid in marks.alive()[1]
            leader.kill()
            await asyncio.to_thread(leader.wait)
            assert marks.alive()[1] != []
        finally:
            leader.kill()
            marks.kill()
    assert marks.alive(environments=True) == {}


def test_a_mark_in_the_environment_is_enough() -> None:
    marks = Marks()
    with subprocess.Popen(["sleep", str(FOREVER)], env={**os.environ, MARK_NAME: marks.of(7)}) as bearer:
        try:
            assert marks.alive() == {}
            assert marks.alive(environments=True) == {7: [bearer.pid]}
        finally:
            bearer.kill()
