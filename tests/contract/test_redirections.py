"""Streams that are files by their paths: FIFOs, one file for two streams, and paths that mean the host's own."""

import asyncio
import errno
import os
import resource
import socket
import stat
import subprocess
import threading
from ast import literal_eval
from pathlib import Path

import pytest

from aiocmdpool import ProcessPool
from aiocmdpool.backends.workers.private import _owners
from aiocmdpool.commands.command import CommandConfig, Stdio
from aiocmdpool.commands.errors import CommandTimeout, IoError

from .loops import LOOPS
from .support import FOREVER, HOST_DEADLINE, adopting, host_argv, host_environment, outcome, pattern, run_host, sh

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="looks through /proc")


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


class OtherEnd(threading.Thread):
    """Opens the other end of a FIFO as a shell does, and waits for the program to open its own."""

    def __init__(self, path, flags: int, data: bytes = b"") -> None:
        super().__init__()
        self.path, self.flags, self.data = path, flags, data
        self.start()

    def run(self) -> None:
        with open(os.open(self.path, self.flags), "rb" if self.flags == os.O_RDONLY else "wb") as file:
            self.data = file.read() if self.flags == os.O_RDONLY else bytes(file.write(self.data))


@pytest.mark.parametrize("timeout", [None, FOREVER])
async def test_a_fifo_as_stdin_waits_for_its_writer_and_holds_nobody(backend, fifo, timeout):
    (fifo.parent / "file").write_bytes(b"")
    for _ in range(2):  # a worker knows the place by the second time
        reading = asyncio.ensure_future(backend.execute(CommandConfig("cat", stdin=fifo, timeout=timeout)))
        assert (await backend.execute(CommandConfig("echo", ["meanwhile"]))).stdout == b"meanwhile\n"
        assert not reading.done()
        writer = OtherEnd(fifo, os.O_WRONLY, pattern(200_000))
        assert (await reading).stdout == pattern(200_000)
        writer.join()
        await backend.execute(CommandConfig("cat", stdin=fifo.parent / "file"))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_fifo_for_output_waits_for_its_reader_within_the_deadline(backend, fifo, stream):
    writing = asyncio.ensure_future(backend.execute(sh("echo out; echo err >&2", timeout=FOREVER, **{stream: fifo})))
    assert (await backend.execute(CommandConfig("echo", ["meanwhile"]))).stdout == b"meanwhile\n"
    reader = OtherEnd(fifo, os.O_RDONLY)
    result = await writing
    await asyncio.to_thread(reader.join)
    assert reader.data == {"stdout": b"out\n", "stderr": b"err\n"}[stream]
    assert (result.returncode, getattr(result, stream)) == (0, None)


@pytest.mark.parametrize("timeout", [None, FOREVER])
@pytest.mark.parametrize("stderr", ["merged", "path", "link"])
async def test_both_streams_go_to_one_fifo(backend, fifo, stderr, timeout):
    (fifo.parent / "link").symlink_to(fifo)
    target = {"merged": Stdio.MERGED, "path": fifo, "link": fifo.parent / "link"}[stderr]
    keeps_it_open = os.open(fifo, os.O_RDWR)  # without a timeout there has to be a reader
    try:
        result = await backend.execute(sh("echo out; echo err >&2", stdout=fifo, stderr=target, timeout=timeout))
        assert os.read(keeps_it_open, 100) == b"out\nerr\n"
    finally:
        os.close(keeps_it_open)
    assert (result.returncode, result.stdout, result.stderr) == (0, None, None)


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
async def test_a_fifo_that_nobody_opens_ends_with_the_deadline(backend, fifo, tmp_path, stream):
    command = sh(f"touch '{tmp_path}/ran'", timeout=0.1, **{stream: fifo})
    assert isinstance(await outcome(backend.execute(command)), CommandTimeout)
    assert not (tmp_path / "ran").exists()


async def test_who_waits_for_a_fifo_can_be_cancelled(backend, fifo):
    reading = asyncio.ensure_future(backend.execute(CommandConfig("cat", stdin=fifo)))
    await backend.execute(CommandConfig("true"))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


def other_ways(tmp_path, name: str):
    """A file under other names than its own."""
    (tmp_path / "link").symlink_to(name)
    (tmp_path / "hard").hardlink_to(tmp_path / name)
    (tmp_path / "folder").symlink_to(tmp_path)
    return {
        "itself": tmp_path / name,
        "dot": f"{tmp_path}/./{name}",
        "up": f"{tmp_path}/../{tmp_path.name}/{name}",
        "slashes": f"//{tmp_path}/{name}",
        "link": tmp_path / "link",
        "hard link": tmp_path / "hard",
        "folder": tmp_path / "folder" / name,
    }


@pytest.mark.parametrize("way", ["itself", "dot", "up", "slashes", "link", "hard link", "folder"])
async def test_one_path_for_both_streams_is_one_open_file(backend, tmp_path, way):
    (tmp_path / "both").write_bytes(b"from before")
    other = other_ways(tmp_path, "both")[way]
    command = sh("for i in 1 2 3; do echo o$i; echo e$i >&2; done", stdout=tmp_path / "both", stderr=other)
    result = await backend.execute(command)
    assert (tmp_path / "both").read_bytes() == b"o1\ne1\no2\ne2\no3\ne3\n"
    assert result.stdout is result.stderr is None


def ways_to(fd: int, tmp_path) -> dict[str, str]:
    """Paths by which this process, and no other, names a descriptor of its own."""
    (tmp_path / "link").symlink_to(f"/proc/self/fd/{fd}")
    (tmp_path / "second").symlink_to("link")
    (tmp_path / "folder").symlink_to("/dev/fd")
    return {
        "dev": f"/dev/fd/{fd}",
        "self": f"/proc/self/fd/{fd}",
        "number": f"/proc/{os.getpid()}/fd/{fd}",
        "thread": f"/proc/thread-self/fd/{fd}",
        "slashes": f"//proc/self//fd/{fd}",
        "link": f"{tmp_path}/link",
        "link to a link": f"{tmp_path}/second",
        "folder": f"{tmp_path}/folder/{fd}",
    }


WAYS = ["dev", "self", "number", "thread", "slashes", "link", "link to a link", "folder"]


@linux
@pytest.mark.parametrize("way", WAYS)
async def test_a_path_to_a_descriptor_is_that_of_the_host(backend, tmp_path, way):
    (tmp_path / "in").write_bytes(b"input\n")
    with (tmp_path / "out").open("wb") as out, (tmp_path / "in").open("rb") as into:
        for look in ("first", "second"):  # a worker looks at a place in one way at first, in another later
            names = tmp_path / f"{look}-out", tmp_path / f"{look}-in"
            for name in names:
                name.mkdir()
            output, source = ways_to(out.fileno(), names[0])[way], ways_to(into.fileno(), names[1])[way]
            await backend.execute(sh("cat; echo err >&2", stdin=Path(source), stdout=output, stderr=output))
            assert (tmp_path / "out").read_bytes() == b"input\nerr\n"


@linux
@pytest.mark.parametrize("first", ["stdout", "stderr"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_file_and_a_descriptor_of_it_are_one_open_file(backend, tmp_path, way, first):
    (tmp_path / "both").write_bytes(b"from before")
    second = {"stdout": "stderr", "stderr": "stdout"}[first]
    with (tmp_path / "both").open("rb") as file:
        streams = {first: ways_to(file.fileno(), tmp_path)[way], second: tmp_path / "both"}
        for _ in range(2):  # a worker opens it in one way at first, in another later
            await backend.execute(sh("for i in 1 2 3; do echo o$i; echo e$i >&2; done", **streams))
            assert file.read() == b"o1\ne1\no2\ne2\no3\ne3\n"
            file.seek(0)


@linux
@pytest.mark.parametrize("timeout", [None, FOREVER])
@pytest.mark.parametrize("way", WAYS)
async def test_a_path_to_a_pipe_of_the_host_waits_for_nobody(backend, tmp_path, way, timeout):
    """It has no other end to wait for; and for whoever else opens the path it is another file, or none."""
    (tmp_path / "in").mkdir()
    (source, full), (out, target) = os.pipe(), os.pipe()
    with open(source, "rb"), open(full, "wb", buffering=0) as into, open(out, "rb") as got, open(target, "wb") as last:
        into.write(b"input\n")
        paths = {"stdin": Path(ways_to(source, tmp_path / "in")[way]), "stdout": ways_to(target, tmp_path)[way]}
        await backend.execute(sh("read line; echo $line", **paths, timeout=timeout))
        last.close()
        assert got.read() == b"input\n"


@linux
@pytest.mark.parametrize("timeout", [0, FOREVER])
def test_paths_of_standard_streams_that_are_pipes_are_those_of_the_host(backend_name, timeout):
    host = run_host("own_streams_by_path", backend_name, "asyncio", timeout, input="input\n", stderr=subprocess.STDOUT)
    assert host.stdout.split() == ["input", "/dev/fd/1", "/proc/self/fd/1", "/dev/stderr"]


@linux
async def test_a_file_below_the_directory_of_the_process_is_that_of_the_host(backend, tmp_path, monkeypatch):
    await backend.execute(CommandConfig("true"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/proc/self/cwd/target")
    for path in ("/proc/self/cwd/direct", str(tmp_path / "link")):
        await backend.execute(sh("echo out", cwd="/", stdout=path))
    assert (tmp_path / "direct").read_bytes() == (tmp_path / "target").read_bytes() == b"out\n"


@linux
@pytest.mark.parametrize("way", WAYS)
async def test_a_socket_of_the_host_is_handed_on(backend, tmp_path, way):
    one, other = socket.socketpair()
    with one, other:
        await backend.execute(sh("echo out", stdout=ways_to(other.fileno(), tmp_path)[way]))
        assert one.recv(100) == b"out\n"


@linux
@pytest.mark.parametrize("loop", ["asyncio", "asyncio-debug"])  # uvloop gives up: libuv aborts at its end
def test_a_host_without_standard_streams_gives_the_null_device(backend_name, loop, tmp_path):
    """The numbers belong to what was opened first: the loop's own descriptors, or those of a worker."""
    argv = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    argv += host_argv("inherit_nothing", backend_name, loop, tmp_path / "report")
    with adopting():
        subprocess.run(argv, env=host_environment(), timeout=HOST_DEADLINE, check=True)
    assert (tmp_path / "report").read_text() == "/dev/null /dev/null /dev/null\n"


@linux
@pytest.mark.parametrize("loop", ["asyncio", "asyncio-debug"])  # as above
def test_a_path_to_a_standard_stream_that_the_host_has_not_got_is_no_file(backend_name, loop, tmp_path):
    """The number may be that of the pipe or the socket by which the loop wakes up, or of a file that would be cut."""
    argv = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    argv += host_argv("missing_streams_by_path", backend_name, loop, tmp_path)
    with adopting():
        subprocess.run(argv, env=host_environment(), timeout=HOST_DEADLINE, check=True)
    lines = (tmp_path / "report").read_text().splitlines()
    assert len(lines) == 18
    for line in lines:
        assert line.startswith(f"IoError {errno.ENXIO} cannot start true: its std")
        assert line.endswith(" cannot be opened: this process was started without that stream")


@pytest.mark.parametrize("limit", [0, 100_000])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_host_that_may_not_write_files_gets_all_output(backend_name, loop, limit, tmp_path):
    """Memory files count as files (RLIMIT_FSIZE), and SIGXFSZ ends who does not ignore it."""

    def hold() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with adopting():
        host = subprocess.run(
            host_argv("large_output", backend_name, loop, tmp_path / "file"),
            env={**host_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            timeout=HOST_DEADLINE,
            check=True,
            preexec_fn=hold,
        )
    assert literal_eval(host.stdout.decode()) == ([(0, True, False)] * 5, -25)


@linux
async def test_what_is_between_host_and_workers_is_no_file_for_a_program(tmp_path):
    """A path may name any descriptor of the host, also those that it does not know of."""
    async with ProcessPool(1) as pool:
        await pool.execute(CommandConfig("true"))
        private = [fd for owner in _owners for fd in owner.private() if fd >= 0 and stat.S_IFMT(os.fstat(fd).st_mode)]
        assert len(private) > 3
        (tmp_path / "me").symlink_to(f"/proc/{os.getpid()}/fd")
        for fd in private:
            for options in (
                {"stdout": f"/dev/fd/{fd}"},
                {"stdin": Path(f"/proc/self/fd/{fd}")},
                {"stdout": f"/proc/{os.getpid()}/fd/{fd}"},
                {"stderr": f"/proc/{os.getpid()}/task/{os.getpid()}/fd/{fd}"},
                {"stdin": tmp_path / "me" / str(fd)},
            ):
                error = await outcome(pool.execute(CommandConfig("true", **options)))
                assert (type(error), error.errno) == (IoError, errno.EACCES)
        assert (await pool.execute(CommandConfig("echo", ["fine"]))).stdout == b"fine\n"
        assert pool.statistics().lost == 0


@linux
@pytest.mark.parametrize("way", ["itself", "link", "folder"])
async def test_what_workers_and_their_guardian_have_is_no_file_for_a_program(tmp_path, way):
    async with ProcessPool(1) as pool:
        guardian = pool._crew._guardian
        async with asyncio.timeout(HOST_DEADLINE):
            while not guardian.pid:  # it says its pid when it likes
                await pool.execute(CommandConfig("true"))
        servants = [*pool.statistics().pids, guardian.pid]
        assert len(servants) == 2
        assert all(servants)
        for pid in servants:
            (tmp_path / str(pid)).symlink_to(f"/proc/{pid}/fd")
            for fd in range(12):
                (tmp_path / f"{pid}.{fd}").symlink_to(f"/proc/{pid}/fd/{fd}")
                names = {"itself": f"/proc/{pid}/fd/{fd}", "link": f"{pid}.{fd}", "folder": f"{pid}/{fd}"}
                for stream in ("stdin", "stdout"):
                    error = await outcome(pool.execute(CommandConfig("true", **{stream: tmp_path / names[way]})))
                    assert (type(error), getattr(error, "errno", None)) == (IoError, errno.EACCES), (pid, fd, stream)
        assert [*pool.statistics().pids, guardian.pid] == servants


@linux
async def test_the_descriptor_of_another_process_is_a_file_as_any_other(backend, tmp_path):
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        for _ in range(2):
            await backend.execute(CommandConfig("echo", ["out"], stdout=f"/proc/{other.pid}/fd/1", timeout=FOREVER))
            assert other.stdout.readline() == b"out\n"
        other.stdin.close()
