"""The tree of errors: what is what, what each carries, and that all of them can travel."""

import copy
import dataclasses
import errno
import inspect
import os
import pickle

import pytest

from aiocmdpool.commands import errors
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import (
    ChildError,
    CircuitOpen,
    CommandTimeout,
    ConfigError,
    ExecuteError,
    IoError,
    LineTooLong,
    NonZeroExit,
    OutputLimitExceeded,
    PoolClosed,
    QueueFull,
    StdinClosed,
    TaskCancelled,
    WorkerLost,
)
from aiocmdpool.commands.result import CommandResult, EndReason

COMMAND = CommandConfig("program", ["arg"], env={"NAME": "value"})
RESULT = CommandResult(COMMAND, 3, b"out", b"err", 7, 0.5, end_reason=EndReason.TIMEOUT)

PARENTS = {
    ExecuteError: Exception,
    IoError: ExecuteError,
    CommandTimeout: ExecuteError,
    ChildError: ExecuteError,
    NonZeroExit: ChildError,
    OutputLimitExceeded: ChildError,
    WorkerLost: ChildError,
    TaskCancelled: ExecuteError,
    QueueFull: ExecuteError,
    PoolClosed: ExecuteError,
    CircuitOpen: ExecuteError,
    StdinClosed: IoError,
    LineTooLong: ExecuteError,
    ConfigError: ExecuteError,
}

every_kind = pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)


def test_the_table_above_has_every_error():
    found = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)}
    assert found == set(PARENTS)


@every_kind
def test_each_has_its_parent(kind):
    assert kind.__bases__[0] is PARENTS[kind]
    assert issubclass(kind, ExecuteError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (IoError, OSError),
        (CommandTimeout, TimeoutError),
        (ConfigError, ValueError),
        (StdinClosed, BrokenPipeError),
        (LineTooLong, ValueError),
    ],
)
def test_some_are_also_what_python_calls_them(kind, builtin):
    with pytest.raises(builtin, match="message"):
        raise kind("message")


def test_no_error_is_a_cancellation():
    import asyncio

    assert not any(issubclass(kind, asyncio.CancelledError) for kind in PARENTS)


@every_kind
def test_str_is_the_message_and_nothing_else(kind):
    assert str(kind("the message", command=COMMAND, result=RESULT)) == "the message"
    assert "the message" in repr(kind("the message"))


@every_kind
def test_without_command_and_result_both_are_none(kind):
    error = kind("message")
    assert (error.command, error.result, error.end_reason) == (None, None, None)


@every_kind
def test_the_command_is_that_of_the_result_unless_said_otherwise(kind):
    assert kind("message", result=RESULT).command is COMMAND
    other = CommandConfig("other")
    assert kind("message", command=other, result=RESULT).command is other
    assert kind("message", result=RESULT).end_reason is EndReason.TIMEOUT


@every_kind
def test_a_reason_can_be_given_where_nothing_ran(kind):
    error = kind("message", command=COMMAND, end_reason=EndReason.QUEUE_TIMEOUT)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (each.end_reason, each.result, each.command) == (EndReason.QUEUE_TIMEOUT, None, COMMAND)


@every_kind
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_each_survives_pickling_with_its_result(kind, protocol):
    again = pickle.loads(pickle.dumps(kind("message", result=RESULT), protocol))
    assert type(again) is kind
    assert (str(again), again.command, again.result) == ("message", COMMAND, RESULT)
    assert again.end_reason is EndReason.TIMEOUT


@every_kind
def test_each_can_be_copied(kind):
    again = copy.copy(kind("message", result=RESULT))
    assert (type(again), str(again), again.result) == (kind, "message", RESULT)


def test_an_io_error_carries_errno_and_filename():
    error = IoError("message", errno=errno.ENOENT, filename="/bin/x", command=COMMAND)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (each.errno, each.filename, each.command) == (errno.ENOENT, "/bin/x", COMMAND)
        assert str(each) == "message"
    assert (IoError("message").errno, IoError("message").filename) == (None, None)


def test_an_io_error_is_one_class_whatever_its_errno():
    """`OSError` would turn some into subclasses of its own (`OSError(2, "")` is a `FileNotFoundError`)."""
    assert type(IoError("message", errno=errno.ENOENT)) is IoError


def test_a_config_error_carries_its_field():
    error = ConfigError("message", field="timeout")
    assert error.field == pickle.loads(pickle.dumps(error)).field == "timeout"
    assert ConfigError("message").field == ""


def test_a_result_reaches_a_handler_of_the_builtin_error():
    with pytest.raises(TimeoutError) as caught:
        raise CommandTimeout("message", result=RESULT)
    assert caught.value.result is RESULT
    with pytest.raises(OSError, match="message") as caught_too:
        raise IoError("message", errno=errno.EACCES)
    assert caught_too.value.errno == errno.EACCES


def test_errors_take_no_unknown_details():
    with pytest.raises(TypeError):
        ExecuteError("message", colour="red")


@every_kind
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_has_all_that_an_error_was_given(kind, again):
    error = kind("message", command=COMMAND, result=RESULT)
    error.add_note("one")
    error.add_note("two")
    error.task_id, error.started_at, error.of_the_caller = 7, 1.5, ["anything"]
    other = again(error)
    assert (type(other), str(other), other.command, other.result) == (kind, "message", COMMAND, RESULT)
    assert (other.__notes__, other.task_id, other.started_at) == (["one", "two"], 7, 1.5)
    assert other.of_the_caller == ["anything"]
    other.add_note("three")
    assert error.__notes__ == ["one", "two"]


def test_an_io_error_says_in_words_what_its_number_means():
    for error in (IoError("message", errno=errno.ENOENT), pickle.loads(pickle.dumps(IoError("m", errno=errno.ENOENT)))):
        assert (error.errno, error.strerror) == (errno.ENOENT, os.strerror(errno.ENOENT))
    assert IoError("message").strerror is None


def test_an_error_after_the_start_knows_when_that_was_and_which_task():
    result = dataclasses.replace(RESULT, started_at=1.5, task_id=7)
    error = NonZeroExit("message", result=result)
    assert (error.started_at, error.task_id) == (1.5, 7)


class OfSomebodyElse(ExecuteError):
    """Its arguments are its own."""

    def __init__(self, host: str, *, port: int) -> None:
        super().__init__(f"{host} is away", command=COMMAND, result=RESULT)
        self.host, self.port = host, port


class FileOfSomebodyElse(IoError):
    def __init__(self, host: str) -> None:
        super().__init__(f"{host} has no such file", errno=errno.ENOENT, filename="file")
        self.host = host


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error", [OfSomebodyElse("host", port=22), FileOfSomebodyElse("host")], ids=lambda error: type(error).__name__
)
def test_an_error_with_arguments_of_its_own_can_travel(error, again):
    other = again(error)
    assert (type(other), str(other), other.args) == (type(error), str(error), error.args)
    assert vars(other) == vars(error)
    if isinstance(error, OSError):
        assert (other.errno, other.strerror, other.filename) == (errno.ENOENT, os.strerror(errno.ENOENT), "file")
