"""Wrong arguments where a backend, a pool or a live process is made or used: an error that says what is right."""

import dataclasses
import errno
import inspect
import pickle

import pytest

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandPoolSeg,
    ConfigError,
    ExecutionConfig,
    ExecutionMode,
    IoError,
    ProcessBackend,
    ProcessPool,
    Stdio,
    ThreadBackend,
    create_backend,
    stream_command,
)

CAT = CommandConfig("cat")
NO_COMMANDS = ["ls -l", ["ls", "-l"], None, CAT | CAT]


@pytest.mark.parametrize("command", NO_COMMANDS, ids=repr)
@pytest.mark.parametrize("backend", [ProcessBackend, ThreadBackend, lambda: ProcessPool(1)])
async def test_a_backend_says_what_to_use_instead_of_what_is_no_command(backend, command):
    async with backend() as executor:
        with pytest.raises(ConfigError, match="not a CommandConfig; use "):
            await executor.execute(command)
        with pytest.raises(ConfigError, match="not a CommandConfig; use "):
            async with executor.open(command):
                pytest.fail("it was opened")


@pytest.mark.parametrize("config", [{}, 0, "", ()])
@pytest.mark.parametrize("make", [CommandPool, CommandPoolSeg, create_backend])
def test_what_is_empty_is_no_configuration(make, config):
    with pytest.raises(ConfigError, match=r"^config: .* is not ExecutionConfig"):
        make(config)


@pytest.mark.parametrize("config", [None, ExecutionMode.THREAD])
def test_a_backend_is_made_of_a_configuration_only(config):
    with pytest.raises(ConfigError, match=r"^config: "):
        create_backend(config)


def test_a_mistyped_option_of_a_configuration_is_refused_with_the_one_that_was_meant():
    with pytest.raises(
        ConfigError, match="worker: no such option of ExecutionConfig; did you mean 'workers'"
    ) as caught:
        ExecutionConfig(worker=2)
    assert caught.value.field == "worker"
    names = [field.name for field in dataclasses.fields(ExecutionConfig)]
    assert list(inspect.signature(ExecutionConfig).parameters) == names
    config = ExecutionConfig(workers=2, defaults={"timeout": 3})
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_mistyped_option_of_a_pipeline_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match="pipefial: no such option of a pipeline; did you mean 'pipefail'"):
        (CAT | CAT).with_options(pipefial=True)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"streams": "stdout"}, "streams"),
        ({"streams": ["stdot"]}, "streams"),
        ({"streams": ["args"]}, "streams"),
        ({"pty": (24, 80)}, "pty"),
        ({"pty": "yes"}, "pty"),
    ],
)
async def test_what_open_does_not_know_is_refused_before_anything_is_started(arguments, field):
    async with ProcessBackend() as backend:
        with pytest.raises(ConfigError, match=f"^{field}: "):
            async with backend.open(CAT, **arguments):
                pytest.fail("it was opened")


async def test_a_word_for_long_lines_that_is_none_is_refused():
    lines = stream_command(CommandConfig("echo", ["a"]), long_lines="cut")
    with pytest.raises(ConfigError, match=r"long_lines: 'cut' is neither \"error\" nor \"split\""):
        await anext(lines)


@pytest.mark.parametrize("number", [-1, 999, 15.0, "TERM", None])
@pytest.mark.parametrize("backend", [ProcessBackend, ThreadBackend, lambda: ProcessPool(1)])
async def test_what_is_no_signal_is_refused_in_every_mode(backend, number):
    async with backend() as executor, executor.open(CAT) as process:
        with pytest.raises(ConfigError, match=r"^signal: .* is no signal; give signal\.SIGTERM"):
            process.send_signal(number)
        process.send_signal(0)
        process.stdin.write(b"still there\n")
        assert await process.stdout.read_line() == b"still there\n"


@pytest.mark.parametrize("use", ["0.9", None.__class__, [1]])
def test_a_share_that_is_no_number_is_refused(use):
    with pytest.raises(ConfigError, match=r"^queue_use: "):
        CommandPool().health(queue_use=use)


def test_a_target_that_makes_no_sense_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"^stdin: Stdio.CAPTURE makes no sense here; use bytes, a pathlib\.Path"):
        CommandConfig("cat", stdin=Stdio.CAPTURE)
    with pytest.raises(ConfigError, match=r"^stdout: Stdio.MERGED makes no sense here; use Stdio.CAPTURE, NULL"):
        CommandConfig("cat", stdout=Stdio.MERGED)


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("backend", [ProcessBackend, ThreadBackend, lambda: ProcessPool(1)])
async def test_a_descriptor_that_is_not_open_is_named(backend, stream):
    async with backend() as executor:
        with pytest.raises(IoError, match=f"cannot start cat: {stream}=9999 is no descriptor that is open") as caught:
            await executor.execute(CommandConfig("cat", **{stream: 9999}))
    assert caught.value.errno == errno.EBADF


def test_a_subclass_of_the_configuration_takes_options_of_its_own():
    @dataclasses.dataclass(frozen=True)
    class Labelled(ExecutionConfig):
        label: str = ""

    class Sized(ExecutionConfig):
        def __init__(self, size: int) -> None:
            super().__init__(workers=size)

    assert (Labelled(workers=2, label="x").workers, Sized(size=3).workers) == (2, 3)


async def test_streams_may_come_from_an_iterator():
    async with ProcessBackend() as backend, backend.open(CAT, streams=iter(("stdin", "stdout"))) as process:
        process.stdin.write(b"said")
        process.stdin.close()
        assert await process.stdout.read() == b"said"


@pytest.mark.parametrize("pty", [None, 0, False])
async def test_without_a_terminal_programs_have_pipes(pty):
    async with (
        ProcessBackend() as backend,
        backend.open(CommandConfig("test", ["-p", "/dev/stdout"]), pty=pty) as process,
    ):
        assert await process.wait() == 0
