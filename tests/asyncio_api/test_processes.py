"""What asyncio's signature allows, with a worker that starts the program; and what is better than asyncio."""

import asyncio
import errno
import os
import resource
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import pytest
from contract.support import assert_dead, helper, is_gone

from aiocmdpool import ProcessPool
from aiocmdpool.commands.errors import PoolClosed

pytestmark = pytest.mark.slow

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture
async def pool():
    async with ProcessPool(1) as pool:
        yield pool


async def said(process: asyncio.subprocess.Process) -> bytes:
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def test_it_is_asyncios_process_with_asyncios_streams(pool):
    process = await pool.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert isinstance(process, asyncio.subprocess.Process)
    assert isinstance(process.stdin, asyncio.StreamWriter)
    assert isinstance(process.stdout, asyncio.StreamReader)
    assert (process.stderr, process.returncode) == (None, None)
    process.stdin.write(b"one\ntwo\n")
    assert await process.stdout.readline() == b"one\n"
    process.stdin.close()
    assert await process.stdout.read() == b"two\n"
    assert (await process.wait(), process.returncode) == (0, 0)
    assert is_gone(process.pid)


async def test_streams_go_where_they_are_told(pool, tmp_path):
    script = "echo out; echo err >&2"
    both = await pool.create_subprocess_shell(script, stdout=PIPE, stderr=STDOUT)
    assert await said(both) == b"out\nerr\n"
    with open(tmp_path / "file", "wb") as file:
        process = await pool.create_subprocess_shell(script, stdout=file, stderr=file.fileno())
        await process.wait()
    assert (tmp_path / "file").read_bytes() == b"out\nerr\n"
    silent = await pool.create_subprocess_shell("cat; " + script, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    assert await silent.communicate() == (None, b"err\n")


async def test_descriptors_are_passed_under_their_numbers(pool):
    ends = [os.pipe() for _ in range(3)]
    writers = [write_end for _, write_end in ends]
    code = f"import os; [os.write(fd, b'%d' % fd) for fd in {writers}]; print(sorted(map(int, os.listdir('/dev/fd'))))"
    process = await pool.create_subprocess_exec(*PYTHON, code, stdout=PIPE, pass_fds=writers)
    seen = await said(process)
    for read_end, write_end in ends:
        os.close(write_end)
        assert os.read(read_end, 10) == b"%d" % write_end
        os.close(read_end)
    assert [fd for fd in eval(seen) if fd > 2 and fd not in writers][1:] == []  # that of the listing


async def test_without_close_fds_it_has_what_is_inheritable(pool):
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    process = await pool.create_subprocess_exec(*PYTHON, f"open({write_end}, 'w').write('hello')", close_fds=False)
    assert await process.wait() == 0
    os.close(write_end)
    assert os.read(read_end, 10) == b"hello"
    os.close(read_end)


async def test_the_setup_of_the_process(pool, tmp_path):
    code = "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), os.environ.get('A'), 'HOME' in os.environ)"
    process = await pool.create_subprocess_exec(
        *PYTHON, code, stdout=PIPE, start_new_session=True, cwd=tmp_path, env={"A": "b"}, pipesize=4096
    )
    assert await said(process) == f"True {tmp_path} b False\n".encode()
    named = await pool.create_subprocess_exec("whatever", "-c", "echo $0", executable="/bin/sh", stdout=PIPE)
    assert await said(named) == b"whatever\n"
    shell = await pool.create_subprocess_shell("echo $0", executable="/bin/bash", stdout=PIPE)
    assert await said(shell) == b"/bin/bash\n"
    masked = await pool.create_subprocess_shell("umask", umask=0o27, stdout=PIPE)
    assert await said(masked) == b"0027\n"


@root_only
async def test_identity(pool):
    process = await pool.create_subprocess_shell(
        "id -u; id -g; id -G", user=65534, group=12345, extra_groups=[12346, 12347], stdout=PIPE
    )
    assert await said(process) == b"65534\n12345\n12345 12346 12347\n"


@pytest.mark.parametrize(
    ("argv", "options", "kind"),
    [
        (["/no/such/program"], {}, FileNotFoundError),
        (["/"], {}, PermissionError),
        (["true"], {"cwd": "/no/such/directory"}, FileNotFoundError),
        (["true"], {"stdout": 9999}, OSError),
        (["true"], {"pass_fds": [9999]}, OSError),
        (["true"], {"executable": "/no/such/program"}, FileNotFoundError),
    ],
    ids=["no program", "a directory", "no cwd", "no descriptor", "none to pass", "no executable"],
)
async def test_what_cannot_be_started_raises_as_asyncio_does(pool, argv, options, kind):
    with pytest.raises(kind) as caught:
        await pool.create_subprocess_exec(*argv, stdin=PIPE, **{"stdout": PIPE, **options})
    assert caught.value.errno in (errno.ENOENT, errno.EACCES, errno.EBADF)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"preexec_fn": print}, "preexec_fn"),
        ({"restore_signals": False}, "restore_signals"),
        ({"process_group": 5}, "process_group"),
        ({"creationflags": 8}, "creationflags"),
        ({"stdin": STDOUT}, "stdin"),
        ({"stdout": "file.txt"}, "stdout"),
        ({"pass_fds": [-1]}, "pass_fds"),
        ({"pass_fds": [2**31]}, "pass_fds"),
        ({"pass_fds": [10**5000]}, "pass_fds"),
        ({"stdout": 2**31}, "stdout"),
        ({"pass_fds": range(3, 300)}, "pass_fds"),
        ({"extra_groups": ["no such group"]}, "extra_groups"),
        ({"bufsize": 1}, "bufsize"),
        ({"text": True}, "text"),
        ({"shell": True}, "shell"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_no_worker_can_do_is_refused_by_name(pool, options, word):
    with pytest.raises(ValueError, match=word):
        await pool.create_subprocess_exec("true", **options)


async def test_a_keyword_that_nobody_knows_is_a_type_error(pool):
    with pytest.raises(TypeError, match="colour"):
        await pool.create_subprocess_exec("true", colour="red")


async def test_what_it_leaves_behind_is_killed(pool, ready):
    process = await pool.create_subprocess_exec(*helper("double_fork", ready.path, "leave", "session").argv)
    left, _ = await ready.pids(2)
    assert await process.wait() == 0
    await assert_dead(left)


async def test_unless_it_may(pool, ready):
    argv = helper("double_fork", ready.path, "leave", "session").argv
    process = await pool.create_subprocess_exec(*argv, detach=True)
    left, _ = await ready.pids(2)
    assert await process.wait() == 0
    assert not is_gone(left)
    os.kill(left, signal.SIGKILL)
    await assert_dead(left)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_at_any_moment_of_its_start_nothing_is_left(pool, turns):
    start = asyncio.create_task(pool.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE))
    for _ in range(turns):
        await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert pool.statistics().in_flight == 0


async def test_a_lost_worker_is_the_end_of_its_programs(pool):
    process = await pool.create_subprocess_exec("sleep", "60", stdout=PIPE)
    os.kill(pool.statistics().pids[0], signal.SIGKILL)
    assert await process.stdout.read() == b""
    assert await process.wait() == -signal.SIGKILL
    await assert_dead(process.pid)


async def test_the_end_of_the_pool_is_the_end_of_them():
    async with ProcessPool(1) as pool:
        process = await pool.create_subprocess_exec("sleep", "60")
    assert await process.wait() == -signal.SIGTERM
    with pytest.raises(PoolClosed):
        await pool.create_subprocess_exec("true")


async def test_the_highest_of_all_descriptors_can_be_passed_too(pool):
    read_end, write_end = os.pipe()
    highest = os.dup2(write_end, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1)
    argv = (*PYTHON, f"open({highest}, 'w').write('hello')")
    process = await pool.create_subprocess_exec(*argv, pass_fds=[highest, write_end])
    assert await process.wait() == 0
    os.close(highest)
    os.close(write_end)
    assert os.read(read_end, 10) == b"hello"
    os.close(read_end)
