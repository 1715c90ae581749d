"""`create_subprocess_exec` and its relatives, with asyncio's own signatures; see the package.

arguments ── our pipes ── run in a worker ── started ── transport ── connected ── … ── exit ── `_process_exited`
"""

import asyncio
import fcntl
import functools
import os
import signal
import subprocess
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Callable, Sequence
from typing import TypeVar, Unpack

from aiocmdpool.asyncio_api.arguments import SHELL, PopenArguments, Stream, command_of, refuse_text
from aiocmdpool.asyncio_api.transport import WorkerProcess, WorkerSubprocessTransport
from aiocmdpool.commands.command import CommandConfig, StrOrBytesPath
from aiocmdpool.commands.errors import IoError
from aiocmdpool.commands.run_control import ChildSetup
from aiocmdpool.live.controlled import ControlledExecutor
from aiocmdpool.live.owned_run import OwnedRun, close_all
from aiocmdpool.live.wiring import ALL, open_pipes
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.system.safe_log import SafeLog

LIMIT = 2**16  # bytes; the limit of asyncio.streams
PIPE = subprocess.PIPE

_log = SafeLog("aiocmdpool.process_pool")
ProtocolT = TypeVar("ProtocolT", bound=asyncio.SubprocessProtocol)


class AsyncioSubprocesses:
    """Mixin for executors that take a `RunControl`: asyncio's functions and methods that start programs.

    Differences from asyncio: the program is the leader of a process group of its own, and has no part in the terminal
    of this process; its leftovers are killed at its exit, unless `detach=True`; and everything ends with the pool, or
    with this process. `preexec_fn` and `restore_signals=False` raise `ValueError`.
    """

    async def create_subprocess_exec(
        self: ControlledExecutor,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        limit: int = LIMIT,
        **options: Unpack[PopenArguments],
    ) -> Process:
        """Start a program in a worker, with the arguments and result of `asyncio.create_subprocess_exec`.

        Example:
            >>> async with ProcessPool() as pool:
            ...     process = await pool.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            ...     await process.communicate(b"hello")
            (b'hello', None)

        Cancellation: a program that is starting is killed, and reaped before `CancelledError` is raised.

        Raises:
            OSError: The program could not be started: `FileNotFoundError` and so on.
            ValueError: An argument is wrong, or one that no worker can honour.
            ExecuteError: The pool is closed, or its worker was lost.
        """
        refuse_text(options, shell=False)  # type: ignore[arg-type]
        return await _create(self, [program, *args], (stdin, stdout, stderr), limit, options)

    async def create_subprocess_shell(
        self: ControlledExecutor,
        cmd: str | bytes,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        limit: int = LIMIT,
        **options: Unpack[PopenArguments],
    ) -> Process:
        """Start a shell command in a worker, like `asyncio.create_subprocess_shell`; see `create_subprocess_exec`."""
        refuse_text(options, shell=True)  # type: ignore[arg-type]
        return await _create(self, _shell(cmd, options), (stdin, stdout, stderr), limit, options)

    async def subprocess_exec(
        self: ControlledExecutor,
        protocol_factory: Callable[[], ProtocolT],
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        stdin: Stream = PIPE,
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
        **options: Unpack[PopenArguments],
    ) -> tuple[asyncio.SubprocessTransport, ProtocolT]:
        """Start a program in a worker, like `loop.subprocess_exec`; see `create_subprocess_exec`."""
        refuse_text(options, shell=False)  # type: ignore[arg-type]
        return await _start(self, protocol_factory(), [program, *args], (stdin, stdout, stderr), options)

    async def subprocess_shell(
        self: ControlledExecutor,
        protocol_factory: Callable[[], ProtocolT],
        cmd: str | bytes,
        *,
        stdin: Stream = PIPE,
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
        **options: Unpack[PopenArguments],
    ) -> tuple[asyncio.SubprocessTransport, ProtocolT]:
        """Start a shell command in a worker, like `loop.subprocess_shell`; see `create_subprocess_exec`."""
        refuse_text(options, shell=True)  # type: ignore[arg-type]
        return await _start(self, protocol_factory(), _shell(cmd, options), (stdin, stdout, stderr), options)


def _shell(cmd: str | bytes, options: PopenArguments) -> list[StrOrBytesPath]:
    if not isinstance(cmd, str | bytes):
        raise ValueError(f"cmd: {cmd!r} is no string")
    shell = options.pop("executable", None)  # also its argv[0], as for `Popen`
    return [shell or SHELL, "-c", cmd]


async def _create(
    executor: ControlledExecutor,
    argv: Sequence[StrOrBytesPath],
    streams: Sequence[Stream],
    limit: int,
    options: PopenArguments,
) -> Process:
    loop = asyncio.get_running_loop()
    protocol = SubprocessStreamProtocol(limit=limit, loop=loop)
    transport, _ = await _start(executor, protocol, argv, streams, options)
    return Process(transport, protocol, loop)


async def _start(
    executor: ControlledExecutor,
    protocol: ProtocolT,
    argv: Sequence[StrOrBytesPath],
    streams: Sequence[Stream],
    options: PopenArguments,
) -> tuple[asyncio.SubprocessTransport, ProtocolT]:
    """Start a program, and connect it to `protocol` by a transport."""
    size = options.get("pipesize", -1)
    command, setup = command_of(argv, streams, **options)
    ours, theirs = open_pipes(name for name, stream in zip(ALL, streams, strict=True) if stream == PIPE)
    try:
        for fd in ours.values() if size > 0 else ():
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        run = OwnedRun(executor, command, theirs, list(theirs.values()), setup)
    except BaseException:
        close_all([*ours.values(), *theirs.values()])
        raise
    try:
        await _begin(run, command, setup)
    except BaseException:
        close_all(list(ours.values()))
        raise
    return await _connect(run, protocol, argv, streams, ours), protocol


async def _begin(run: OwnedRun, command: CommandConfig, setup: ChildSetup) -> None:
    """Wait until the program of `run` runs, through cancellations of the caller, which end the program.

    Raises:
        OSError: The program could not be started.
    """
    cancelled = await wait_through(run.begun, on_cancel=lambda: _kill(run))
    if cancelled is None and run.pid is not None:
        return
    cancelled = await wait_through(run.task) or cancelled
    if cancelled is not None:
        raise cancelled
    try:
        run.result_or_error()
    except IoError as error:
        if error.errno is None:
            raise
        # the errno makes it a FileNotFoundError, a PermissionError, …
        where = error.filename or command.cwd or setup.executable or command.program
        raise OSError(error.errno, os.strerror(error.errno), where) from error


def _kill(run: OwnedRun) -> None:
    run.send_signal(signal.SIGKILL)
    run.end()


async def _connect(
    run: OwnedRun,
    protocol: asyncio.SubprocessProtocol,
    argv: Sequence[StrOrBytesPath],
    streams: Sequence[Stream],
    ours: dict[str, int],
) -> WorkerSubprocessTransport:
    """Return a transport that connects a running program to `protocol`."""
    loop = asyncio.get_running_loop()
    assert run.pid is not None
    arguments = [os.fspath(argument) for argument in argv]
    process = WorkerProcess(arguments, run.pid, ours, run.send_signal)
    connected = loop.create_future()
    stdin, stdout, stderr = streams
    transport = WorkerSubprocessTransport(
        loop, protocol, arguments, False, stdin, stdout, stderr, 0, waiter=connected, process=process
    )
    run.task.add_done_callback(functools.partial(_tell_exit, transport, run))
    try:
        await connected
    except BaseException:
        transport.close()
        _kill(run)
        await wait_through(run.task)
        raise
    return transport


def _tell_exit(transport: WorkerSubprocessTransport, run: OwnedRun, _: object) -> None:
    if run.result is not None:
        code = run.result.returncode
    else:  # its worker was lost, and everything that it ran has been killed
        code = -signal.SIGKILL
        _log.warning("%r: its exit status is not known, it has been killed with its worker", transport)
    transport._process_exited(code)
