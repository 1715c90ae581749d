"""The conditions a program runs under: umask, niceness, limits, user and group."""

import ast
import errno
import grp
import os
import pwd
import signal
import sys
from typing import Any

import pytest

from aiocmdpool.commands.command import CommandConfig, ResourceLimits
from aiocmdpool.commands.errors import CommandTimeout, IoError

from .privileges import needs_capability
from .support import (
    assert_dead,
    helper,
    niceness_after,
    outcome,
    returns_before_programs_end,
    run_host,
    sh,
    with_patience,
)

pytestmark = pytest.mark.slow

MIB = 1024 * 1024

becomes_somebody_else = needs_capability("CAP_SETUID", "CAP_SETGID")


async def identity(backend, **options: Any) -> dict[str, Any]:
    result = await backend.execute(helper("print_identity", **options))
    assert result.returncode == 0, result.stderr
    seen: dict[str, Any] = ast.literal_eval(result.text())
    return seen


async def test_without_options_all_is_that_of_the_host(backend):
    seen = await identity(backend)
    umask = os.umask(0)
    os.umask(umask)
    assert seen["umask"] == umask
    assert seen["niceness"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert (seen["uid"], seen["gid"], seen["groups"]) == (os.getuid(), os.getgid(), sorted(os.getgroups()))


@pytest.mark.parametrize("umask", [0, 0o22, 0o77, 0o777])
async def test_umask(backend, umask):
    assert (await identity(backend, umask=umask))["umask"] == umask


async def test_umask_of_a_command_is_not_that_of_the_host(backend):
    before = os.umask(0o22)
    try:
        await identity(backend, umask=0o77)
        assert os.umask(0o22) == 0o22
    finally:
        os.umask(before)


async def test_umask_is_for_the_files_of_the_program(backend, tmp_path):
    await backend.execute(CommandConfig("touch", [tmp_path / "file"], umask=0o77))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("niceness", [1, 5])
async def test_niceness_is_added(backend, niceness):
    assert (await identity(backend, niceness=niceness))["niceness"] == niceness_after(niceness)


async def test_niceness_ends_at_nineteen(backend):
    assert (await identity(backend, niceness=40))["niceness"] == 19


@needs_capability("CAP_SYS_NICE")
async def test_niceness_below_zero(backend):
    assert (await identity(backend, niceness=-3))["niceness"] == niceness_after(-3)


async def test_limits_arrive_soft_and_hard(backend):
    limits = ResourceLimits(cpu_seconds=7, address_space=512 * MIB, open_files=99, file_size=12_345)
    seen = (await identity(backend, limits=limits))["limits"]
    expected = {"cpu_seconds": 7, "address_space": 512 * MIB, "open_files": 99, "file_size": 12_345}
    assert seen == {name: (value, value) for name, value in expected.items()}


async def test_a_limit_of_one_command_is_not_that_of_the_next(backend):
    before = (await identity(backend))["limits"]
    await identity(backend, limits=ResourceLimits(open_files=99))
    assert (await identity(backend))["limits"] == before


@pytest.mark.one_loop("uvloop")
async def test_past_its_cpu_seconds_the_kernel_ends_it(backend):
    with returns_before_programs_end():
        result = await backend.execute(helper("burn_cpu", 30, limits=ResourceLimits(cpu_seconds=1)))
    assert result.signal in (signal.SIGXCPU, signal.SIGKILL)
    if result.usage is not None:
        assert 0.3 < result.usage.user + result.usage.system < 3  # counted by ticks on a busy machine


async def test_past_its_memory_an_allocation_fails(backend):
    result = await backend.execute(helper("allocate", 600 * MIB, limits=ResourceLimits(address_space=300 * MIB)))
    assert result.returncode == 3
    result = await backend.execute(helper("allocate", 50 * MIB, limits=ResourceLimits(address_space=300 * MIB)))
    assert result.stdout == b"allocated"


async def test_past_its_open_files_an_open_fails(backend):
    result = await backend.execute(helper("open_files", limits=ResourceLimits(open_files=20)))
    assert result.text().splitlines() == ["20", os.strerror(errno.EMFILE)]


async def test_past_its_file_size_the_kernel_ends_it(backend, tmp_path):
    result = await backend.execute(
        helper("write_file", tmp_path / "file", 100_000, limits=ResourceLimits(file_size=50_000))
    )
    assert result.signal == signal.SIGXFSZ
    assert (tmp_path / "file").stat().st_size <= 50_000


async def test_a_limit_on_files_does_not_touch_captured_output(backend):
    """Output may pass through a file of the backend's own, which is not the program's."""
    result = await backend.execute(helper("write_n_bytes", 1_000_000, limits=ResourceLimits(file_size=0)))
    assert (result.returncode, len(result.stdout)) == (0, 1_000_000)


@pytest.mark.parametrize(
    "limits", [ResourceLimits(open_files=4), ResourceLimits(address_space=30 * MIB), ResourceLimits(cpu_seconds=1)]
)
async def test_a_tight_limit_is_for_the_program_and_not_for_its_preparation(backend, limits):
    result = await backend.execute(CommandConfig("echo", ["works"], limits=limits))
    assert (result.returncode, result.stdout) == (0, b"works\n")


@becomes_somebody_else
async def test_user_by_name_brings_its_groups_along(backend):
    nobody = pwd.getpwnam("nobody")
    result = await backend.execute(sh("id -u; id -g; id -G", user="nobody", cwd="/"))
    uid, gid, groups = result.text().splitlines()
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert set(map(int, groups.split())) == set(os.getgrouplist("nobody", nobody.pw_gid))


@becomes_somebody_else
async def test_user_by_number(backend):
    nobody = pwd.getpwnam("nobody")
    result = await backend.execute(sh("id -u; id -g", user=nobody.pw_uid, cwd="/"))
    assert list(map(int, result.text().split())) == [nobody.pw_uid, nobody.pw_gid]


@becomes_somebody_else
async def test_a_number_without_an_entry_is_a_user_too(backend):
    result = await backend.execute(sh("id -u; id -G", user=54_321, group=54_322, cwd="/"))
    assert list(map(int, result.text().split())) == [54_321, 54_322]


@becomes_somebody_else
async def test_a_user_without_an_entry_never_keeps_the_hosts_groups(backend, tmp_path):
    """Nobody knows its group, and that of root is no answer."""
    error = await outcome(backend.execute(sh(f"touch '{tmp_path}/ran'", user=54_321, cwd="/")))
    assert isinstance(error, IoError)
    assert error.errno == errno.EINVAL
    assert "user" in str(error)
    assert "group" in str(error)
    assert not (tmp_path / "ran").exists()


@becomes_somebody_else
async def test_group_alone(backend):
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid)
    for name in (group.gr_name, group.gr_gid):
        result = await backend.execute(sh("id -u; id -g; id -G", group=name))
        assert result.text().split() == [str(os.getuid()), str(group.gr_gid), str(group.gr_gid)]


@becomes_somebody_else
async def test_another_user_has_no_privilege_left(backend, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root's own")
    secret.chmod(0o600)
    result = await backend.execute(sh(f"cat '{secret}'; grep CapEff /proc/self/status", user="nobody", cwd="/"))
    assert b"root's own" not in result.stdout
    if sys.platform == "linux":
        assert int(result.text().split()[-1], 16) == 0


@becomes_somebody_else
async def test_a_program_of_another_user_is_ended_by_its_deadline(backend):
    command = sh("sleep 60 & echo $!; sleep 60", user="nobody", cwd="/")
    with returns_before_programs_end():
        error = await with_patience(
            lambda seconds: outcome(backend.execute(command.with_timeout(seconds))),
            lambda error: bool(error.result.stdout),
        )
    assert isinstance(error, CommandTimeout)
    await assert_dead(error.result.pid, int(error.result.text()))


async def test_all_settings_at_once(backend, tmp_path):
    limits = ResourceLimits(cpu_seconds=9, open_files=64)
    seen = await identity(backend, umask=0o37, niceness=2, limits=limits, cwd=tmp_path)
    assert (seen["umask"], seen["cwd"]) == (0o37, str(tmp_path.resolve()))
    assert seen["niceness"] == niceness_after(2)
    assert (seen["limits"]["cpu_seconds"], seen["limits"]["open_files"]) == ((9, 9), (64, 64))
    assert seen["group"] == seen["pid"]


async def test_streams_and_exit_are_the_same_under_settings(backend):
    result = await backend.execute(sh("cat; echo err >&2; exit 7", stdin=b"in", umask=0o77, niceness=1))
    assert (result.returncode, result.stdout, result.stderr) == (7, b"in", b"err\n")
    assert result.pid
    result = await backend.execute(sh("echo $$; kill -TERM $$", umask=0o77))
    assert (result.signal, int(result.text())) == (signal.SIGTERM, result.pid)


async def test_deadlines_are_the_same_under_settings(backend):
    error = await outcome(backend.execute(CommandConfig("sleep", ["60"], niceness=1, timeout=0.2)))
    assert isinstance(error, CommandTimeout)
    assert error.result.returncode == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root may do everything")
def test_a_setting_that_cannot_be_applied_is_an_error_and_the_program_never_ran(backend_name, tmp_path):
    host = run_host("unprivileged", backend_name, "asyncio", tmp_path / "ran")
    seen = [ast.literal_eval(line) for line in host.stdout.splitlines()]
    assert [name for name, *_ in seen] == ["niceness", "user", "group", "limits", "niceness"]
    for name, kind, number, named, cured in seen:
        assert (name, kind, named, cured) == (name, "IoError", True, True)
        assert number in (errno.EPERM, errno.EACCES)
    assert not (tmp_path / "ran").exists()
