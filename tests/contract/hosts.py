"""Scenarios that need a Python process of their own: `python -m contract.hosts SCENARIO BACKEND LOOP [ARG...]`.

Each tells its test what it saw by printing Python literals.
"""

import asyncio
import ctypes
import os
import platform
import pwd
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiocmdpool.commands.command import CommandConfig, OutputPolicy, ResourceLimits, Stdio
from aiocmdpool.commands.errors import ConfigError, ExecuteError
from aiocmdpool.commands.result import CommandResult

from .backends import BACKENDS
from .loops import LOOPS
from .support import helper, outcome, pattern, sh, with_patience

Make = Callable[[], Any]  # makes a backend that is not entered


async def inherit_streams(make: Make) -> None:
    everything = {"stdin": Stdio.INHERIT, "stdout": Stdio.INHERIT, "stderr": Stdio.INHERIT}
    async with make() as backend:
        result = await backend.execute(sh("cat; echo; echo on the stderr of the host >&2", **everything))
    print((result.returncode, result.stdout, result.stderr))


async def closed_streams(make: Make, report: str) -> None:
    for stream in (0, 1, 2):
        os.close(stream)
    async with make() as backend:
        result = await backend.execute(sh("cat; echo err >&2", stdin=b"in"))
    seen = repr((result.returncode, result.stdout, result.stderr))
    with open(report, "w") as file:
        file.write(seen)
    # Python itself complains at its end about streams that it cannot flush.
    os._exit(0)


async def inherit_nothing(make: Make, report: str) -> None:
    everything = {"stdin": Stdio.INHERIT, "stdout": Stdio.INHERIT, "stderr": Stdio.INHERIT}
    script = 'for fd in 0 1 2; do seen="$seen $(readlink /proc/$$/fd/$fd)"; done; echo $seen >"$1"'
    async with make() as backend:
        await backend.execute(sh(script, report, **everything))


async def missing_streams_by_path(make: Make, directory: str) -> None:
    """Say in a file what becomes of commands whose streams are those that this process has not got."""
    lines = []
    async with make() as backend:
        for stream in ("stdin", "stdout", "stderr"):
            link = Path(directory, stream)
            link.symlink_to(f"/dev/{stream}")
            for path in (Path("/dev", stream), link, Path(f"//dev/{stream}")):
                for timeout in (None, 30.0):
                    error = await outcome(backend.execute(CommandConfig("true", timeout=timeout, **{stream: path})))
                    lines.append(f"{type(error).__name__} {getattr(error, 'errno', None)} {error}")
    Path(directory, "report").write_text("\n".join(lines))


async def own_streams_by_path(make: Make, seconds: str) -> None:
    """Copy the own stdin to the own stdout, by their paths; then say that path on each of its other names."""
    deadline = float(seconds) or None
    async with make() as backend:
        await backend.execute(CommandConfig("cat", stdin=Path("/dev/stdin"), stdout="/dev/stdout", timeout=deadline))
        for path in ("/dev/fd/1", "/proc/self/fd/1", "/dev/stderr"):
            await backend.execute(CommandConfig("echo", [path], stdout=path, timeout=deadline))


async def large_output(make: Make, path: str) -> None:
    """Print whether output of some sizes comes whole, and how a program ends that writes a file."""
    whole = []
    async with make() as backend:
        for size in (10, 65_536, 70_000, 200_000, 3_000_000):
            result = await backend.execute(helper("write_n_bytes", size))
            whole.append((result.returncode, result.stdout == pattern(size), result.truncated))
        command = helper("write_n_bytes", 300_000, output_policy=OutputPolicy.KEEP_TAIL, max_output=250_000)
        assert (await backend.execute(command)).stdout == pattern(300_000)[-250_000:]
        runs = [backend.execute(helper("write_n_bytes", 150_000, "both")) for _ in range(4)]
        for result in await asyncio.gather(*runs):
            assert result.stdout == result.stderr == pattern(150_000)
        result = await backend.execute(helper("write_file", path, 200_000))
    print((whole, result.returncode))


async def gone_directory(make: Make, directory: str) -> None:
    """Print what becomes of commands in a host whose working directory has been removed, and what that leaves open."""
    async with make() as backend:
        await backend.execute(CommandConfig("cat", stdin=b"x" * 100_000))
        os.mkdir(directory)
        os.chdir(directory)
        os.rmdir(directory)
        seen = []
        for command in (
            CommandConfig("no-such-program"),
            CommandConfig("./no-such-program"),
            CommandConfig("no-such-program", stdin=b"x" * 100_000, niceness=1),
            CommandConfig("echo", ["text"], cwd="/"),
        ):
            ended = await outcome(backend.execute(command))
            seen.append(ended.stdout if isinstance(ended, CommandResult) else isinstance(ended, ExecuteError))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await outcome(backend.execute(CommandConfig("cat", stdin=b"x" * 100_000)))
        left_open = len(os.listdir("/proc/self/fd")) - before
        for options in ({"cwd": "relative"}, {"stdout": "relative"}, {"stderr": Path("relative")}):
            try:
                CommandConfig("true", **options)
            except ConfigError as error:
                seen.append("absolute path" in str(error))
    print((seen, left_open))


async def no_descriptors(make: Make, room: str) -> None:
    """Print the errors of all kinds of commands in a host that has room for so many more descriptors."""
    async with make() as backend:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 2, hard))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            for _ in range(int(room)):
                os.close(held.pop())
        ends = [
            await outcome(backend.execute(command))
            for command in (
                CommandConfig("true", stdout=Path("/dev/null")),
                CommandConfig("cat", stdin=b"x" * 100_000, niceness=1),
                CommandConfig("true", stdout="/dev/fd/1"),
            )
        ]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    print([(isinstance(end, ExecuteError), "ulimit -n" in str(end)) for end in ends])


async def swapped_streams(make: Make) -> None:
    os.dup2(1, 2)  # the test wants silence on stderr
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    async with make() as backend:
        await backend.execute(helper("merged_order", stdout=2, stderr=1))
    os.dup2(null, 2)


async def sigchld_ignored(make: Make) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    async with make() as backend:
        for script in ("exit 0", "exit 7", "kill -TERM $$", "echo text"):
            result = await backend.execute(sh(script))
            print((result.returncode, result.stdout))
        error = await with_patience(  # what saves the exit status has to be up by the deadline
            lambda seconds: outcome(backend.execute(sh("echo up; exec sleep 60", timeout=seconds))),
            lambda error: bool(error.result.stdout),
        )
        print((type(error).__name__, error.result.returncode))
        error = await outcome(backend.execute(CommandConfig("/nonexistent/program")))
        print((type(error).__name__, error.errno))


async def stderr_with_sigchld_ignored(make: Make) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    async with make() as backend:
        print((await backend.execute(sh("echo own >&2"))).stderr)


async def variable_without_name(make: Make) -> None:
    """It cannot be set from Python, only be given to this process."""
    assert os.environb[b""] == b"x=y"
    async with make() as backend:
        for options in ({}, {}, {"umask": 0o77}, {"env": {"OTHER": "1"}}):
            names = (await backend.execute(helper("print_env", **options))).stdout.split(b"\0")
            print([name for name in names if name.startswith(b"=")], sum(name.startswith(b"PATH=") for name in names))


async def ended_early_with_sigchld_ignored(make: Make) -> None:
    """Whatever a backend does to save the exit status, a deadline may come while it is still at it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    async with make() as backend:
        for milliseconds in range(0, 40, 4):
            error = await outcome(backend.execute(CommandConfig("sleep", ["60"], timeout=milliseconds / 1000)))
            print((type(error).__name__,))


async def stolen_statuses(make: Make) -> None:
    """Somebody in the host reaps every child there is, as a careless init does."""
    keep = subprocess.Popen(["sleep", "60"])  # so that there is always somebody to wait for

    def steal() -> None:
        while os.waitpid(-1, 0)[0] != keep.pid:
            pass

    thief = threading.Thread(target=steal, daemon=True)
    thief.start()
    async with make() as backend:
        for code in (0, 7):
            value = await outcome(backend.execute(sh(f"exit {code}")))
            print((code, getattr(value, "returncode", type(value).__name__)))
    os.kill(keep.pid, signal.SIGKILL)
    thief.join()
    keep.returncode = -signal.SIGKILL  # the thief has it


async def without_pidfd(make: Make) -> None:
    if hasattr(os, "pidfd_open"):
        del os.pidfd_open
    async with make() as backend:
        for script in ("exit 0", "exit 7", "kill -TERM $$", "echo text"):
            result = await backend.execute(sh(script))
            print((result.returncode, result.stdout))
        error = await outcome(backend.execute(CommandConfig("sleep", ["60"], timeout=0.05)))
        print((type(error).__name__, error.result.returncode))
        running = asyncio.ensure_future(backend.execute(CommandConfig("sleep", ["60"])))
        await asyncio.sleep(0)
        running.cancel()
        print((type(await outcome(running)).__name__,))


def two_loops(make: Make, loop: str) -> None:
    """Two loops in two threads start commands at the same time (uvloop#508)."""
    failures: list[BaseException] = []
    together = threading.Barrier(2)

    async def sixty() -> None:
        async with make() as backend:
            together.wait()
            for _ in range(6):
                results = await asyncio.gather(*(backend.execute(sh("exit 3")) for _ in range(10)))
                assert [result.returncode for result in results] == [3] * 10

    def in_thread() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(sixty())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=in_thread) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(failures)


async def shut_down(make: Make, ready: str) -> None:
    """Leave a running command to `asyncio.run`, which cancels all tasks at its end."""
    backend = make()
    await backend.__aenter__()
    task = asyncio.ensure_future(backend.execute(helper("ignore_sigterm", ready, grace=0.05)))
    _KEPT.append(task)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def interrupted(make: Make, ready: str) -> None:
    async with make() as backend:
        await backend.execute(helper("sleep_after_ready", ready))


async def unprivileged(make: Make, marker: str) -> None:
    """Ask for what takes a privilege, without one."""
    drop_privileges()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    async with make() as backend:
        for options in (
            {"niceness": -5},
            {"user": somebody_else()},
            {"group": 12345},
            {"limits": ResourceLimits(open_files=hard + 1)},
            {"umask": 0o77, "niceness": -5},
        ):
            error = await outcome(backend.execute(helper("touch_file", marker, **options)))
            name = list(options)[-1]
            print((name, type(error).__name__, error.errno, name in str(error), "privilege" in str(error)))


def somebody_else() -> str:
    """Return the name of a user that this process is not."""
    return next(name for name in ("nobody", "daemon") if pwd.getpwnam(name).pw_uid != os.geteuid())


async def unwritable(make: Make, path: str) -> None:
    drop_privileges()
    async with make() as backend:
        error = await outcome(backend.execute(CommandConfig("true", stdout=path)))
        print((type(error).__name__, error.errno, path in str(error)))


def drop_privileges() -> None:
    """Root without a capability may do no more than anybody (capabilities(7)); anybody needs no dropping."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    pr_capbset_drop, capset = 24, {"x86_64": 126, "aarch64": 91}[platform.machine()]
    for capability in range(64):  # out of the bounding set, so that no exec brings it back
        libc.prctl(pr_capbset_drop, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    if libc.syscall(capset, header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


async def blocked_signals(make: Make) -> None:
    """What the host blocks and ignores for itself is no business of its programs."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD])
    async with make() as backend:
        result = await backend.execute(CommandConfig("cat", ["/proc/self/status"]))
        print([line for line in result.text().splitlines() if line.startswith("SigBlk")])
        error = await outcome(backend.execute(CommandConfig("sleep", ["60"], timeout=0.05, grace=10)))
        print((type(error).__name__, error.result.returncode))


async def high_descriptors(make: Make) -> None:
    """Descriptors above 1,024, where select(2) ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2048:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048 if hard == resource.RLIM_INFINITY else min(2048, hard), hard))
    held = []
    while not held or held[-1] < 1100:
        held.append(os.open(os.devnull, os.O_RDWR))
    async with make() as backend:
        result = await backend.execute(CommandConfig("cat", stdin=b"in"))
        print((result.returncode, result.stdout))
        error = await outcome(backend.execute(CommandConfig("sleep", ["60"], timeout=0.05)))
        print((type(error).__name__,))
        result = await backend.execute(CommandConfig("cat", stdin=held[-1], stdout=held[-2]))
        print((result.returncode, result.stdout))
    for descriptor in held:
        os.close(descriptor)


async def bounded_memory(make: Make, policy: str, stderr: str) -> None:
    """A quarter of a gigabyte of output under a cap of 1 MiB."""
    size, cap = 256 * 1024 * 1024, 1024 * 1024
    script = f"head -c {size} /dev/zero" + (" >&2" if stderr == "stderr" else "")
    async with make() as backend:
        await backend.execute(sh("true"))
        before = peak_memory()
        command = sh(script, max_output=cap, output_policy=OutputPolicy(policy))
        result = await backend.execute(command)
        grown = peak_memory() - before
    kept = result.stderr if stderr == "stderr" else result.stdout
    print((result.returncode, len(kept), result.truncated, grown // 1024))


def peak_memory() -> int:
    """In kilobytes."""
    if not os.path.exists("/proc/self/status"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    # ru_maxrss would be that of the tests at least: it is inherited through vfork and exec (bun#43305).
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


_KEPT: list[object] = []  # tasks that nobody awaits are kept from the garbage collector


def main() -> None:
    # A shell has its background jobs ignore SIGINT, and so would this process if the tests run in one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    name, backend, loop, *args = sys.argv[1:]
    scenario: Callable[..., Any] = globals()[name]
    if scenario is two_loops:
        scenario(BACKENDS[backend], loop)
        return
    scenario_run: Coroutine[Any, Any, None] = scenario(BACKENDS[backend], *args)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario_run)


if __name__ == "__main__":
    main()
