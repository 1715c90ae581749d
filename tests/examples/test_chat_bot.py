"""`examples/chat_bot.py`, spoken to on its stdin."""

import shutil

import pytest
from contract.support import returns_before_programs_end

from .support import assert_gone, example_argv, programs_of, soon

pytest.importorskip("aiolimiter")
pytestmark = pytest.mark.skipif(shutil.which("factor") is None, reason="there are no coreutils")

# Two primes of 50 digits: much more than some seconds of work.
HARD = 10000000000000000000000000000000000000000000000151 * 30000000000000000000000000000000000000000000000041


@pytest.fixture
def bot(start):
    return start("chat_bot", "--cpu", 1)


def leave(bot):
    bot.end_of_input()
    rest = bot.rest()
    assert (bot.wait(), bot.errors()) == (0, "")
    return rest


def test_commands_are_answered(bot):
    bot.say("ann: !factor 12")
    assert bot.line() == "@ann factor 12: 12: 2 2 3"
    bot.say("ann: what a nice day")
    bot.say("bob: !help")
    assert bot.line() == "@bob commands: date, echo, factor, seq, sleep, stop"
    bot.say("ann: !seq 1 1000000000")
    assert bot.line_with(r"@ann seq 1 1000000000: 1 ⏎ 2 ⏎ 3 .* … \(cut\)")
    bot.say("ann: !sleep x")
    assert bot.line_with(r"@ann sleep x: .*invalid.* \(exit status 1\)")
    assert leave(bot) == []


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("eve: !sh -c id", "@eve sh: no such command; !help lists them"),
        ("eve: !date -s now", "@eve date: words of letters, digits and .:,=+- only, and no options"),
        ("eve: !echo $(id)", "@eve echo: words of letters, digits and .:,=+- only, and no options"),
    ],
)
def test_what_is_not_allowed_is_not_run(bot, message, answer):
    bot.say(message)
    assert leave(bot) == [answer]


def test_stop_ends_the_commands_of_its_user_only(bot):
    bot.say("ann: !sleep 60")
    bot.say("bob: !sleep 60")
    soon(lambda: len(programs_of(bot.pid, "sleep 60")) == 2)
    with returns_before_programs_end():
        bot.say("bob: !stop")
        assert bot.line() == "@bob sleep 60: stopped"
        [left] = programs_of(bot.pid, "sleep 60")
        bot.say("ann: !stop")
        assert bot.line() == "@ann sleep 60: stopped"
        assert_gone([left])
    assert leave(bot) == []


def test_one_user_does_not_keep_others_from_theirs(bot):
    for _ in range(7):
        bot.say("ann: !sleep 60")
    assert bot.line() == "@ann sleep: 6 of yours are running or waiting; !stop ends them"
    bot.say("bob: !echo hello")
    assert bot.line() == "@bob echo hello: hello"
    soon(lambda: len(programs_of(bot.pid, "sleep 60")) == 2)
    bot.say("ann: !stop")
    assert leave(bot) == ["@ann sleep 60: stopped"] * 6


def test_the_kernel_ends_what_takes_too_much_cpu(bot):
    bot.say(f"ann: !factor {HARD}")
    assert bot.line_with(r"\(killed by SIG(KILL|XCPU)\)")
    assert leave(bot) == []


def test_deadlines_and_the_end_of_the_input(start):
    bot = start("chat_bot", "--timeout", 3.5, "--patience", 0)
    bot.say("ann: !sleep 60")
    assert bot.line() == "@ann sleep 60: took longer than 3.5 s"
    bot.say("x" * 200_000)  # is dropped
    bot.say("ann: !sleep 61")
    with returns_before_programs_end():
        assert leave(bot) == ["@ann sleep 61: stopped"]


def test_messages_may_come_from_a_file(start, tmp_path):
    (tmp_path / "messages").write_text("ann: !echo one\nann: !echo two")
    bot = start("", argv=["sh", "-c", 'exec "$@" < "$0"', tmp_path / "messages", *example_argv("chat_bot")])
    assert sorted(bot.rest()) == ["@ann echo one: one", "@ann echo two: two"]
    assert bot.wait() == 0
