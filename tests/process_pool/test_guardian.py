"""Host and workers killed at once: what they ran is gone within a second."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from contract.support import HOST_DEADLINE, host_environment, is_dead

from aiocmdpool.backends.workers import guardian as host_side
from aiocmdpool.backends.workers.guardian import Guardian
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.standalone import guardian
from aiocmdpool.standalone.kernel import processes as procs
from aiocmdpool.system import identity

from .support import hold, in_background, pairs, sh, until
from .test_daemons import killed_at_the_end
from .test_hosts import assert_all_die

pytestmark = pytest.mark.slow

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

PROGRAMS = 9  # that say their pids in a busy host
UNPRIVILEGED = (
    "setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search"
)


@pytest.fixture
def quick_looks(monkeypatch) -> None:
    """Look at it at each beat."""
    monkeypatch.setattr(host_side, "LOOK_EVERY", 0.0)


class Host:
    """A host that runs, and what it has told."""

    def __init__(self, process: subprocess.Popen[bytes], ready) -> None:
        self.process = process
        self._ready = ready
        self.workers: list[int] = []
        self.guardian = 0
        self.programs: list[int] = []
        self.fork = 0

    def listen(self, programs: int = PROGRAMS, until_told: str = "guardian") -> None:
        """Hear who its workers and its guardian are, and that so many programs run."""
        told = False
        while not told or len(self.programs) < programs:
            word, *rest = self._ready.wait_blocking().decode().split()
            told |= word == until_told
            if word == "workers":
                self.workers = list(map(int, rest))
            elif word in ("guardian", "fork"):
                setattr(self, word, int(rest[0]))
            else:
                self.programs.append(int(word))
        assert not any(map(is_dead, self.programs))

    def is_killed(self, *more: int) -> None:
        """With its workers, at once: it does not see them die."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in {*self.workers, *more}:
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        assert self.process.wait(HOST_DEADLINE) == -signal.SIGKILL


@contextlib.contextmanager
def running(scenario: str, loop: str, ready, *args: object, prefix: str = "") -> Iterator[Host]:
    argv = [sys.executable, "-m", "process_pool.guardian_hosts", scenario, loop, ready.path, *map(str, args)]
    with subprocess.Popen([*prefix.split(), *argv], env=host_environment()) as process:
        try:
            yield Host(process, ready)
        finally:
            process.kill()


@loops
@pytest.mark.parametrize("scenario", ["works", "works_without_control_groups", "works_in_a_thread"])
def test_nothing_outlives_a_host_that_is_killed_with_its_workers(ready, loop, scenario):
    with running(scenario, loop, ready) as host:
        host.listen()
        host.is_killed()
        assert_all_die([*host.programs, host.guardian])


@loops
def test_whoever_kills_all_children_and_the_group_of_a_host_does_not_hit_its_guardian(ready, loop):
    with running("works_without_control_groups", loop, ready) as host:
        host.listen()
        children = [child.pid for child in psutil.Process(host.process.pid).children()]
        assert set(host.workers) <= set(children)
        assert host.guardian not in children
        assert os.getsid(host.guardian) not in (host.guardian, host.process.pid, *host.workers)
        host.is_killed(*children)
        assert_all_die([*host.programs, host.guardian])


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes somebody else by setpriv(1)")
@loops
def test_it_needs_no_privilege(ready, loop):
    os.chmod(ready.path, 0o666)
    with running("works", loop, ready, prefix=UNPRIVILEGED) as host:
        host.listen()
        assert psutil.Process(host.guardian).uids().effective == 54321
        host.is_killed()
        assert_all_die([*host.programs, host.guardian])


@loops
@pytest.mark.parametrize("scenario", ["has_a_fork", "has_a_child_that_holds_the_pipe"])
def test_whoever_has_inherited_the_pipe_does_not_keep_the_guardian_waiting(ready, loop, scenario):
    with running(scenario, loop, ready) as host:
        host.listen(until_told="fork")
        try:
            host.is_killed()
            assert_all_die([*host.programs, host.guardian])
        finally:
            os.kill(host.fork, signal.SIGKILL)


@loops
def test_a_guardian_that_is_killed_is_replaced(ready, release, loop):
    """The new one guards the old workers, too, which still run what they ran."""
    with running("gets_another_guardian", loop, ready, release.path) as host:
        host.listen()
        old, first = host.workers, host.guardian
        release.wait_blocking()
        os.kill(first, signal.SIGKILL)
        host.listen()
        assert host.guardian != first
        assert host.workers != old
        host.is_killed(*old)
        assert_all_die([*host.programs, host.guardian])


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_guardian_that_is_stopped_is_continued(new_pool, ready, release, quick_beats, quick_looks):
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    await pairs(ready, 1)
    await until(lambda: pool._crew._guardian.pid)
    pid = pool._crew._guardian.pid
    for _ in range(2):
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: procs.look_at(pid).state == b"S" and not pool._crew._guardian._was_continued)
    assert pool._crew._guardian.pid == pid
    release.send()
    assert (await running).stdout == b"held\n"


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_guardian_that_is_stopped_again_and_again_is_replaced(
    new_pool, ready, release, quick_beats, quick_looks
):
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    await pairs(ready, 1)
    await until(lambda: pool._crew._guardian.pid)
    first = pool._crew._guardian.pid

    def is_replaced() -> bool:
        if not is_dead(first):
            os.kill(first, signal.SIGSTOP)
        return is_dead(first) and pool._crew._guardian.pid not in (0, first)

    await until(is_replaced)
    release.send()
    assert (await running).stdout == b"held\n"


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_a_stranger_that_is_stopped_is_left_alone(new_pool, ready, release, quick_beats, quick_looks):
    """Whoever finds the pipe can write any number there."""
    pool = new_pool(1)
    [running] = in_background(pool, hold(ready, release))
    await pairs(ready, 1)
    await until(lambda: pool._crew._guardian.pid)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        stranger.send_signal(signal.SIGSTOP)
        await until(lambda: procs.look_at(stranger.pid).state == b"T")
        own, pool._crew._guardian.pid = pool._crew._guardian.pid, stranger.pid
        before = pool._crew._guardian._next_look
        await until(lambda: pool._crew._guardian._next_look > before)
        assert procs.look_at(stranger.pid).state == b"T"
        pool._crew._guardian.pid = own
        stranger.kill()
    release.send()
    assert (await running).stdout == b"held\n"


@loops
def test_a_daemon_that_was_left_behind_properly_stays(ready, release, loop):
    with running("leaves_a_daemon", loop, ready, release.path) as host:
        daemon = int(ready.wait_blocking())
        host.listen(programs=1)
        with killed_at_the_end(daemon):
            host.is_killed()
            assert_all_die([*host.programs, host.guardian])


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_it_leaves_with_the_pool(new_pool):
    pool = new_pool(2)
    await pool.execute(CommandConfig("true"))
    await until(lambda: pool._crew._guardian.pid)
    pid = pool._crew._guardian.pid
    assert not is_dead(pid)
    await pool.aclose()
    await until(lambda: is_dead(pid))


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_it_is_replaced_with_the_workers_that_it_may_signal(new_pool):
    """Those of a host that has dropped root, say; theirs must not be the ear of one that is root still."""
    before = identity.current_umask()
    pool = new_pool(1)
    await pool.execute(CommandConfig("true"))
    await until(lambda: pool._crew._guardian.pid)
    first = pool._crew._guardian.pid
    try:
        os.umask(0o077)
        await pool.execute(CommandConfig("true"))
    finally:
        os.umask(before)
    await until(lambda: is_dead(first))
    await until(lambda: pool._crew._guardian.pid)


@pytest.mark.one_loop("asyncio", "uvloop")
async def test_programs_do_not_hold_its_pipe(new_pool):
    pool = new_pool(1)
    await until(lambda: pool.statistics().workers == 0)
    for options in ({}, {"umask": 0o77}):  # spawned, and forked
        held = (await pool.execute(sh("ls -l /proc/$$/fd", **options))).text()
        notes = os.readlink(f"/proc/self/fd/{pool._crew._guardian._handles.notes}")
        assert notes not in held


@pytest.mark.one_loop("asyncio", "uvloop")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12 warns of forks with threads
async def test_a_fork_of_the_host_lets_go_of_the_pipe(new_pool):
    """Where there are no pidfds, the guardian waits for its end."""
    pool = new_pool(1)
    await pool.start()
    handles = pool._crew._guardian._handles
    notes = handles.notes
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(notes)
            os._exit(1)
        except OSError:
            os._exit(0 if handles.notes < 0 else 2)
    assert os.waitpid(pid, 0)[1] == 0
    os.fstat(notes)


# -- what it decides -------------------------------------------------------------------------------------------------


def test_notes_come_in_pieces_and_in_any_number():
    notes = guardian.Notes()
    whole = b"worker 10 20 cookie /a directory\nleft 5 6\nworker 11 21 other \ngone 11\n"
    for byte in whole:
        notes.feed(bytes([byte]))
    assert list(notes.workers) == [10]
    assert (notes.workers[10].started, notes.workers[10].cookie, notes.workers[10].group) == (
        20,
        b"cookie",
        "/a directory",
    )
    assert notes.left == {5: 6}
    assert not notes.all_is_well
    notes.feed(b"bye\n")
    assert notes.all_is_well


def test_no_note_is_longer_than_what_a_pipe_takes_at_once():
    for group in ("/" * 5000, "/a\nb"):
        note = guardian.note_worker(os.getpid(), b"cookie", group)
        assert note.endswith(b" cookie \n")
        assert note.count(b"\n") == 1


def test_many_daemons_that_have_ended_are_forgotten():
    notes = guardian.Notes()
    own = procs.look_at(os.getpid()).started
    notes.feed(b"left %d %d\n" % (os.getpid(), own))
    for number in range(3 * guardian.MAX_LEFT):
        notes.feed(b"left %d 1\n" % (2**22 + 1 + number))
    assert len(notes.left) <= guardian.MAX_LEFT
    assert notes.left[os.getpid()] == own


def test_what_is_no_note_is_passed_over():
    notes = guardian.Notes()
    notes.feed(b"AAAA\nworker\nworker x y z \nleft 1\nleft a 2\n\xff\n\ngone\ngone ?\nworker 10 20 cookie \n")
    assert (list(notes.workers), notes.left, notes.all_is_well) == ([10], {}, False)


@pytest.mark.parametrize("garbage", [b"AAAA", b"-1\n", b"\n", b"\xff\n7\n"])
async def test_what_is_no_pid_does_not_hold_up_the_host(garbage):
    with contextlib.ExitStack() as theirs:
        watched = Guardian(pytest.fail)
        *_, alive = watched.descriptors(theirs)
        try:
            os.write(alive, garbage)
            watched._heard()
            assert watched.pid == 0
            os.write(alive, b"2147483647\n")
            watched._heard()
            os.write(alive, garbage)
            watched._heard()
            assert watched.pid == 2147483647
        finally:
            watched._unwatch()
            watched.abandon()


async def test_one_that_the_loop_has_not_heard_of_yet_is_reaped_where_orphans_come_here():
    with contextlib.ExitStack() as theirs:
        watched = Guardian(pytest.fail)
        *_, alive = watched.descriptors(theirs)
        orphan = os.posix_spawn("/bin/true", ["true"], {})
        os.write(alive, b"%d\n" % orphan)
    watched.retire()  # in the same turn: a pool that is closed as soon as it has answered
    await until(lambda: not psutil.pid_exists(orphan))


@pytest.mark.parametrize("is_another", [False, True])
def test_the_session_of_a_worker_whose_number_was_given_to_another_is_not_touched(is_another):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        notes = guardian.Notes()
        started = procs.look_at(process.pid).started
        notes.workers[process.pid] = guardian.Worker(started - is_another, b"no such cookie", "")
        pid = os.fork()  # it changes its own niceness
        if pid == 0:
            try:
                guardian.sweep(notes)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert is_dead(process.pid) != is_another
        process.kill()
