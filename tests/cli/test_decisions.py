"""The decisions of a run that need no process: when to halt, how to stop, what to count, which options contradict."""

import pytest

from aiocmdpool.cli.arguments.halt import NEVER, HaltAction, HaltPolicy, parse_halt
from aiocmdpool.cli.arguments.parse import parse_run
from aiocmdpool.cli.messages import message
from aiocmdpool.cli.resume import Resume
from aiocmdpool.cli.stop import Stop, StopLevel, StopReason, exit_status
from aiocmdpool.cli.summary import Tally, duration, summary
from aiocmdpool.cli.verdict import AttemptOutcome, Verdict, verdict_of
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, TaskCancelled
from aiocmdpool.commands.result import CommandResult, EndReason

COMMAND = CommandConfig("false", ["a b"])


def result(returncode: int = 0, end_reason: EndReason = EndReason.EXITED) -> CommandResult:
    return CommandResult(COMMAND, returncode, b"", b"", pid=1, duration=0.1, end_reason=end_reason)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("never", NEVER),
        ("now", HaltPolicy(HaltAction.NOW, 1)),
        ("soon", HaltPolicy(HaltAction.SOON, 1)),
        ("soon,fail=1", HaltPolicy(HaltAction.SOON, 1)),
        ("now,fail=12", HaltPolicy(HaltAction.NOW, 12)),
        ("soon,fail=10%", HaltPolicy(HaltAction.SOON, percent=10)),
    ],
)
def test_halt_policies_are_those_of_gnu_parallel(text: str, policy: HaltPolicy) -> None:
    assert parse_halt(text) == policy


@pytest.mark.parametrize(
    "text", ["", "later", "now,", "now,fail", "now,fail=0", "soon,fail=101%", "now,fail=-1", "NOW"]
)
def test_other_halt_policies_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"never|starts at 1"):
        parse_halt(text)


def test_halt_by_number() -> None:
    policy = parse_halt("soon,fail=3")
    assert [policy.reached(failed, 100) for failed in range(5)] == [False, False, False, True, True]
    assert not NEVER.reached(100, 100)


def test_halt_by_percentage_counts_from_the_third_failure() -> None:
    policy = parse_halt("now,fail=10%")
    assert not policy.reached(2, 2)
    assert policy.reached(3, 30)
    assert not policy.reached(3, 31)


def test_stopping_only_becomes_harder() -> None:
    stop = Stop()
    assert stop.request(StopLevel.SOON, StopReason.HALT)
    assert not stop.request(StopLevel.SOON, StopReason.INTERRUPTED)
    assert stop.reason is StopReason.HALT
    assert stop.request(StopLevel.NOW, StopReason.TERMINATED)
    assert not stop.request(StopLevel.SOON, StopReason.HALT)
    assert (stop.level, stop.reason) == (StopLevel.NOW, StopReason.TERMINATED)


@pytest.mark.parametrize(
    ("reason", "failed", "undone", "status"),
    [
        (None, 0, False, 0),
        (None, 1, False, 1),
        (None, 100, False, 100),
        (None, 101, False, 101),
        (None, 5000, False, 101),
        (StopReason.HALT, 2, True, 2),
        (StopReason.INTERRUPTED, 0, True, 130),
        (StopReason.INTERRUPTED, 2, False, 2),
        (StopReason.TERMINATED, 0, False, 143),
        (StopReason.OUTPUT_CLOSED, 3, True, 141),
        (StopReason.FAILED, 0, True, 255),
    ],
)
def test_exit_status(reason: StopReason | None, failed: int, undone: bool, status: int) -> None:
    assert exit_status(Stop(StopLevel.RUNNING if reason is None else StopLevel.SOON, reason), failed, undone) == status


def test_outcomes_are_judged() -> None:
    cancelled = TaskCancelled("gone", result=result(-15, EndReason.CANCELLED))
    assert verdict_of(result(), None, stopping=False).verdict is Verdict.SUCCEEDED
    assert verdict_of(result(3), None, stopping=False).verdict is Verdict.FAILED
    assert verdict_of(None, IoError("no such program"), stopping=False).verdict is Verdict.FAILED
    assert verdict_of(None, cancelled, stopping=True).verdict is Verdict.KILLED
    assert verdict_of(None, TaskCancelled("never ran"), stopping=True).verdict is Verdict.UNDONE
    assert verdict_of(None, cancelled, stopping=False).verdict is Verdict.FAILED


def test_a_defect_is_not_an_outcome() -> None:
    with pytest.raises(ZeroDivisionError):
        verdict_of(None, ZeroDivisionError(), stopping=False)


def test_the_summary_counts_and_names_failures_once() -> None:
    tally = Tally(skipped=2)
    tally.count(AttemptOutcome(Verdict.SUCCEEDED, result()), 1, ["true"])
    tally.count(AttemptOutcome(Verdict.FAILED, None, IoError("told before")), 2, ["nosuch"])
    for number in range(3, 8):
        tally.count(AttemptOutcome(Verdict.FAILED, result(1)), number, ["false", "a b"])
    lines = summary(tally, 3.5).splitlines()
    assert lines[0] == "aiocmdpool: 7 commands in 3.5 s (2.0/s), 6 failed, 2 skipped"
    assert lines[1] == "  failed: input 3: false 'a b': exit status 1"
    assert len(lines) == 5
    assert lines[-1] == "  … and 2 more"
    assert "told before" not in summary(tally, 3.5)


def test_messages_are_one_line_that_no_terminal_obeys() -> None:
    assert message("a\nb\x1b[2J\udcff ä…") == b"aiocmdpool: a\\nb\\x1b[2J\xff \xc3\xa4\xe2\x80\xa6\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (59.2, "59.2 s"), (61, "1:01"), (245.4, "4:05"), (3723, "1:02:03")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_options_end_where_the_program_begins() -> None:
    options = parse_run(["-j4", "-k", "echo", "-j", "5", "--", "--tag", ":::", "-a", "b"])
    assert options.template == ("echo", "-j", "5", "--", "--tag")
    assert options.inputs == ("-a", "b")
    assert (options.jobs, options.keep_order, options.tag) == (4, True, False)


def test_two_dashes_end_the_options() -> None:
    assert parse_run(["-k", "--", "-odd-name", "x"]).template == ("-odd-name", "x")


def test_option_values_are_converted() -> None:
    words = "--max-output 10k --timeout 1.5 --grace 0 --retries 2 --niceness 5 --joblog l --resume-failed x"
    options = parse_run(words.split(" "))
    assert (options.max_output, options.timeout, options.grace, options.retries) == (10240, 1.5, 0.0, 2)
    assert (options.niceness, options.job_log, options.resume) == (5, "l", Resume.SUCCEEDED)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no PROGRAM given"),
        ([":::", "a"], "no PROGRAM given"),
        (["-a", "f", "x", ":::", "a"], "not both"),
        (["x", ":::", "a", ":::", "b"], "second :::"),
        (["--resume", "x"], "need --joblog"),
        (["--progress", "--quiet", "x"], "contradict"),
        (["--resume", "--resume-failed", "--joblog", "l", "x"], "not allowed with"),
        (["-j", "0", "x"], "of at least 1"),
        (["-j", "many", "x"], "'many' is not a whole number"),
        (["--niceness", "20", "x"], "from 0 to 19"),
        (["--timeout", "inf", "x"], "not a number of seconds"),
        (["--max-output", "1T", "x"], "not a number of bytes"),
        (["--halt", "perhaps", "x"], "never"),
        (["--jo", "4", "x"], "unrecognized"),
    ],
)
def test_usage_errors_say_what_is_wrong(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        parse_run(arguments)
    assert leaving.value.code == 255
    assert complaint in capsys.readouterr().err
