"""Words of xargs and GNU parallel: they work, or a usage error says what to type. None is taken for data."""

from pathlib import Path

import pytest

from aiocmdpool.cli.arguments.foreign import ADVICE
from aiocmdpool.cli.arguments.parse import parse_run
from aiocmdpool.cli.arguments.values import MOST_JOBS
from aiocmdpool.system.cpus import cpu_count
from cli.support import run_cli


@pytest.mark.parametrize(
    "word",
    [
        *(
            "{%}",
            "{1}",
            "{2}",
            "{-1}",
            "{1.}",
            "{2/}",
            "{1//}",
            "{1/.}",
            "{..}",
            "{...}",
            "{/..}",
            "{+/}",
            "{+.}",
            "{+..}",
        ),
        *("{##}", "{0#}", "{=s/a/b/=}", "{= $_ = 1 =}"),
    ],
)
@pytest.mark.parametrize("where", ["{}", "x{}y"])
def test_placeholders_of_parallel_are_not_data(word: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        parse_run(["echo", where.replace("{}", word), ":::", "a"])
    assert leaving.value.code == 255
    said = capsys.readouterr().err
    assert f"{word} is a placeholder of GNU parallel and none here" in said
    assert "-I @@" in said


@pytest.mark.parametrize(
    "word", ["${1}", "a\\{1\\}", "{1..3}", "{a,b}", "{1,3}", "{print}", "{ }", "{a.b}", "{", "{}{"]
)
def test_other_braces_are(word: str) -> None:
    assert parse_run(["echo", word, ":::", "a"]).template == ("echo", word)


def test_a_placeholder_of_ones_own_leaves_all_others_alone() -> None:
    run = run_cli("-k", "-I", "@@", "echo", "{} {1} {%} x@@y@@", ":::", "a", "{}")
    assert run.stdout == b"{} {1} {%} xaya\n{} {1} {%} x{}y{}\n"
    assert run_cli("-Ix{}", "--shell", "echo yx{}'x{}'", ":::", "$a b").stdout == b"y$a b$a b\n"
    assert run_cli("-I%", "--shell", "echo % '%' \"%\"", ":::", "$a b").stdout == b"$a b $a b $a b\n"
    missing = run_cli("-I", "@@", "echo", "{}", ":::", "a")
    assert missing.returncode == 255
    assert b"-I @@: the command has no @@" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["-P", "2", "-k", "echo", ":::", "a", "b"], b"a\nb\n"),
        (["-P2", "-n1", "-k", "echo", ":::", "a", "b"], b"a\nb\n"),
        (["-L", "1", "-r", "echo", ":::", "a"], b"a\n"),
        (["--no-run-if-empty", "echo"], b""),
        (["-r", "echo"], b""),
        (["-j", "200%", "echo", ":::", "a"], b"a\n"),
        (["-j", "+1", "echo", ":::", "a"], b"a\n"),
        (["--timeout", "5m", "echo", ":::", "a"], b"a\n"),
        (["--max-output", "1MB", "echo", ":::", "a"], b"a\n"),
    ],
)
def test_words_that_mean_something_here(arguments: list[str], output: bytes) -> None:
    run = run_cli(*arguments)
    assert (run.returncode, run.stdout, run.stderr) == (0, output, b"")


def test_separators() -> None:
    assert run_cli("-k", "-d", ",", "printf", "<%s>", stdin=b"a,b c,\n").stdout == b"<a><b c><\n>"
    assert run_cli("-k", "-d", "\\0", "printf", "<%s>", stdin=b"a\nb\0c\0").stdout == b"<a\nb><c>"
    assert run_cli("-k", "-d\\n", "printf", "<%s>", stdin=b"a\nb\n").stdout == b"<a><b>"
    assert b"is not one ASCII character" in run_cli("-d", "ab", "echo").stderr


def test_a_file_after_four_colons(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\nb\n")
    assert run_cli("-k", "echo", "::::", tmp_path / "list", stdin=b"not me\n").stdout == b"a\nb\n"
    assert run_cli("-k", "echo", "::::", "-", stdin=b"me\n").stdout == b"me\n"
    assert run_cli("-k", "-a", "-", "echo", stdin=b"me\n").stdout == b"me\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-a", "l", "-a", "m", "x"], "-a twice: there is one list of inputs; join them before: cat A B"),
        (["-a", "l", "x", "::::", "m"], "join the files before"),
        (["x", "::::", "l", "m"], "join the files before"),
        (["x", "::::"], ":::: needs a file"),
        (["x", ":::", "a", ":::+", "b"], ":::+ is not supported; join the lists before: paste A B"),
        (["x", "::::", "a", "::::+", "b"], "::::+ is not supported"),
        (["x", ":::", "a", "::::", "b"], "together are not supported"),
        (["x", "::::", "a", ":::", "b"], "join the files before"),
        (["--keeporder", "x"], "unrecognized option --keeporder; type --keep-order"),
        (["--keep-odrer", "x"], "did you mean --keep-order?"),
        (["--linebuffer", "x"], "type --line-buffer"),
        (["--line-buffered", "x"], "did you mean --line-buffer?"),
        (["--job-log", "l", "x"], "did you mean --joblog?"),
        (["--retry=3", "x"], "type --retries"),
        (["-u", "x"], "type --line-buffer"),
        (["-X", "x"], "each command is given one input"),
        (["-C", ",", "x"], "inputs have one column"),
        (["-S", "host", "x"], "commands run on this machine"),
        (["-n", "2", "x"], "each command is given one input"),
        (["-N", "0", "x"], "each command is given one input"),
        (["-L2", "x"], "each command is given one input"),
        (["-j", "0", "x"], "of at least 1; for as many as there can be, give a large one"),
        (["-P", "0", "x"], "of at least 1; for as many as there can be, give a large one"),
        (["-j", "0%", "x"], "nor such as 200% or +2"),
        (["-j", "x2", "x"], "nor such as 200% or +2"),
        (["--timeout", "200%", "x"], "nor such as 90s, 5m, 1h30m"),
        (["--timeout", "5 m", "x"], "nor such as 90s, 5m, 1h30m"),
        (["--max-output", "1X", "x"], "such as 65536, 64k, 10M, 1MB, 1G"),
        (["-I", "", "x"], "a placeholder cannot be empty"),
    ],
)
def test_words_that_mean_nothing_here_say_what_to_type(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        parse_run(arguments)
    assert leaving.value.code == 255
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("option", ADVICE)
def test_no_option_with_advice_is_one_of_ours(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_run([option, "x"])
    assert f"unrecognized option {option}; {ADVICE[option]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1.5", 1.5), ("90s", 90), ("2d", 172800)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_run(["--timeout", text, "x"]).timeout == seconds
    assert parse_run(["--grace", text, "x"]).grace == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("1MB", 1 << 20), ("1MiB", 1 << 20), ("64k", 65536), ("1.5M", 3 << 19), ("7", 7), ("7b", 7), ("2G", 2 << 30)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_run(["--max-output", text, "x"]).max_output == size


def test_jobs_are_counted_in_cpus() -> None:
    cpus = cpu_count()
    for text, jobs in (("200%", 2 * cpus), ("1%", 1), ("+2", cpus + 2), ("-999", 1), ("9" * 12, MOST_JOBS)):
        assert parse_run([f"-j{text}", "x"]).jobs == jobs


def test_the_forgotten_0_is_told() -> None:
    some = run_cli("echo", stdin=b"a\0b\0c\0")
    assert some.returncode == 1
    assert b"are the inputs separated by NUL bytes (find -print0)? Then use -0" in some.stderr
    many = run_cli("echo", stdin=b"a\0" * 1_000_000)
    assert many.returncode == 255
    assert b"Then use -0" in many.stderr


def test_a_forgotten_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from aiocmdpool.cli import main

    assert main(["echo", ":::", "a"]) == 255
    assert "did you mean: aiocmdpool run" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-j", "--timeout", "--grace"])
def test_a_value_with_a_dash_says_how_it_is_written(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        parse_run([option, "-1", "echo", ":::", "a"])
    assert leaving.value.code == 255
    assert "without a blank, as in -j-1 or --jobs=-1" in capsys.readouterr().err
