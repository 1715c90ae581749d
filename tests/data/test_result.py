"""`CommandResult`: what a finished run gave."""

import copy
import dataclasses
import pickle
import signal
from typing import Any

import pytest

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.result import CommandResult, EndReason, LeakedProcess, Usage

COMMAND = CommandConfig("program", ["arg"])


def result(**changes: Any) -> CommandResult:
    fields: dict[str, Any] = {"command": COMMAND, "returncode": 0, "stdout": b"out", "stderr": b"err", "pid": 7}
    return CommandResult(**{**fields, "duration": 0.5, **changes})


def test_the_defaults():
    plain = result()
    assert (plain.end_reason, plain.queued, plain.usage) == (EndReason.EXITED, 0.0, None)
    assert (plain.truncated, plain.leaked) == (False, ())


@pytest.mark.parametrize(
    ("returncode", "number", "text"),
    [
        (0, None, "exit status 0"),
        (1, None, "exit status 1"),
        (255, None, "exit status 255"),
        (-15, signal.SIGTERM, "killed by SIGTERM"),
        (-9, signal.SIGKILL, "killed by SIGKILL"),
        (-45, 45, "killed by signal 45"),
    ],
)
def test_signal_and_text_follow_from_the_returncode(returncode, number, text):
    assert result(returncode=returncode).signal == number
    assert result(returncode=returncode).status_text() == text


@pytest.mark.parametrize("reason", list(EndReason))
@pytest.mark.parametrize("returncode", [0, 1, -15])
def test_ok_is_an_exit_of_its_own_with_status_zero(reason, returncode):
    ok = result(returncode=returncode, end_reason=reason).ok
    assert ok is (returncode == 0 and reason is EndReason.EXITED)


def test_a_leak_is_no_failure():
    assert result(leaked=(LeakedProcess(8, "sleep"),)).ok


def test_text_uses_the_encoding_of_the_command():
    latin = result(command=COMMAND.with_options(encoding="latin-1"), stdout=b"na\xefve", stderr=b"\xe9")
    assert (latin.text(), latin.text("stdout"), latin.text("stderr")) == ("naïve", "naïve", "é")


def test_text_that_is_none_in_this_encoding():
    broken = result(stdout=b"na\xefve")
    with pytest.raises(UnicodeDecodeError):
        broken.text()
    assert broken.text(errors="replace") == "na\ufffdve"
    assert broken.text(errors="ignore") == "nave"


def test_text_of_what_was_not_captured():
    with pytest.raises(ValueError, match="stderr of program arg was not captured"):
        result(stderr=None).text("stderr")


def test_text_of_nothing_is_empty():
    assert result(stdout=b"").text() == ""


def test_a_copy_that_knows_how_long_it_was_queued():
    assert result().with_queued(1.5) == result(queued=1.5)


def test_a_result_is_frozen_slotted_and_comparable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        result().returncode = 1
    assert not hasattr(result(), "__dict__")
    assert result() == result()
    assert result() != result(returncode=1)
    assert {result(), result()} == {result()}


def test_a_result_survives_pickling():
    full = result(
        end_reason=EndReason.TIMEOUT,
        queued=1.5,
        usage=Usage(user=0.1, system=0.2, max_rss=1000),
        truncated=True,
        leaked=(LeakedProcess(8, "sleep"),),
        returncode=-9,
    )
    assert pickle.loads(pickle.dumps(full)) == full
    assert dataclasses.replace(full, queued=2.0).queued == 2.0


def test_repr_hides_the_secrets_of_the_command():
    secret = COMMAND.with_options(env={"PASSWORD": "s3cret"}, stdin=b"s3cret")
    assert "s3cret" not in repr(result(command=secret))


def test_end_reasons_have_distinct_documented_values():
    assert [reason.value for reason in EndReason] == [
        "exited",
        "timeout",
        "idle_timeout",
        "queue_timeout",
        "output_limit",
        "cancelled",
        "closed",
        "worker_lost",
    ]


def test_a_result_can_be_made_a_dict_or_a_tuple():
    command = CommandConfig("program", env={"NAME": "value", "GONE": None}, metadata={"key": ["value"]})
    full = result(command=command, usage=Usage(user=0.1, system=0.2, max_rss=1000), leaked=(LeakedProcess(8, "sleep"),))
    given = dataclasses.asdict(full)
    assert (given["command"]["env"], given["command"]["metadata"]) == (dict(command.env), dict(command.metadata))
    assert type(given["command"]["env"]) is dict
    given["command"]["metadata"]["key"].append("more")
    assert command.metadata["key"] == ["value"]
    assert (given["usage"]["max_rss"], given["leaked"]) == (1000, ({"pid": 8, "name": "sleep"},))
    assert dataclasses.astuple(full)[0][0] == "program"
    pipeline = CommandConfig("a") | CommandConfig("b", env={"NAME": "value"})
    assert dataclasses.asdict(pipeline)["stages"][1]["env"] == {"NAME": "value"}


def test_what_a_command_was_given_as_a_mapping_stays_as_it_is():
    command = CommandConfig("program", env={"NAME": "value"}, metadata={"key": 1})
    for mapping in (command.env, command.metadata):
        with pytest.raises(TypeError):
            mapping["other"] = "value"
        again = (copy.copy(mapping), copy.deepcopy(mapping), pickle.loads(pickle.dumps(mapping)))
        assert [dict(each) for each in again] == [dict(mapping)] * 3
    assert command.env | {"OTHER": "x"} == {"NAME": "value", "OTHER": "x"} == {"OTHER": "x"} | command.env
    assert copy.deepcopy(command) == command
