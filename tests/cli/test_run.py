"""Real runs: what reaches the commands, and what comes out."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NamedPipe
from contract.support import niceness_after

from cli.support import CLI, DEADLINE, environment, read_until, run_cli, running_cli

pytestmark = pytest.mark.slow


def test_each_line_is_one_argument() -> None:
    run = run_cli("-k", "printf", "<%s>\\n", stdin=b"a b\n'c'\n\n$HOME *\n")
    assert run.stdout == b"<a b>\n<'c'>\n<>\n<$HOME *>\n"
    assert (run.returncode, run.stderr) == (0, b"")


def test_given_inputs_and_placeholders() -> None:
    run = run_cli("-k", "echo", "{#}:{/.}:{//}", ":::", "d/a.txt", "b.c.d")
    assert run.stdout == b"1:a:d\n2:b.c:.\n"


def test_inputs_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"a\0b\nc\0")
    assert run_cli("-k", "-0", "-a", tmp_path / "in", "printf", "<%s>", stdin=b"not me").stdout == b"<a><b\nc>"


def test_no_inputs_are_no_commands() -> None:
    run = run_cli("false", stdin=b"")
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


RAW = bytes(set(range(1, 256)) - {10})


@pytest.mark.parametrize("source", ["stdin", "file", "given"])
def test_invalid_utf8_reaches_the_command_byte_for_byte(source: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(RAW + b"\n")
    extra: list[str | bytes | Path] = {"file": ["-a", tmp_path / "in"]}.get(source, [])
    given: list[str | bytes | Path] = [":::", RAW] if source == "given" else []
    run = run_cli(*extra, "printf", "%s", *given, stdin=RAW if source == "stdin" else b"")
    assert run.stdout == RAW


def test_invalid_utf8_in_tags_scripts_and_messages() -> None:
    run = run_cli("--tag", "--shell", "printf %s {}; exit 3", stdin=b"\xff\xfe")
    assert run.stdout == b"\xff\xfe\t\xff\xfe\n"
    assert b"exit status 3" in run.stderr
    assert b"cannot start" in run_cli("{}", stdin=b"/nosuch/\xff").stderr


def test_a_shell_sees_inputs_as_data() -> None:
    run = run_cli("-k", "--shell", "echo {} | tr a-z A-Z", stdin=b"$(id); x\n'`\"\n")
    assert run.stdout == b"$(ID); X\n'`\"\n"


def test_dry_run_prints_commands_that_a_shell_reads_back() -> None:
    inputs = [b"a b", b"it's", b"\xff", b"$x"]
    run = run_cli("--dry-run", "printf", "<%s>", stdin=b"\n".join(inputs))
    lines = run.stdout.splitlines()
    assert len(lines) == 4
    again = subprocess.run(["/bin/sh"], input=run.stdout, capture_output=True, check=True)
    assert again.stdout == b"".join(b"<" + each + b">" for each in inputs)
    assert shlex.split(lines[0].decode()) == ["printf", "<%s>", "a b"]


def test_every_file_of_a_directory_hashes_as_one_plain_run_does() -> None:
    files = sorted(path for path in Path("/usr/bin").iterdir() if path.is_file() and not path.is_symlink())
    assert len(files) > 100
    plain = subprocess.run(["sha256sum", *files], capture_output=True, check=True).stdout
    run = run_cli("-0", "-k", "-j4", "sha256sum", stdin=b"\0".join(os.fsencode(path) for path in files))
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == plain


WRITE_IN_PIECES = """
for n in 1 2 3 4; do
    head -c 70000 /dev/zero | tr '\\0' {}; echo
    printf 'half {} '; echo 'line {}' >&2; echo 'other half {}'
done
"""
LETTERS = "abcdefgh"


@pytest.mark.parametrize("together", [True, False], ids=["one-pipe", "two-pipes"])
def test_the_output_of_a_command_is_never_interleaved(together: bool) -> None:
    argv = [*CLI, "-j", "8", "--shell", WRITE_IN_PIECES, ":::", *LETTERS]
    stderr = subprocess.STDOUT if together else subprocess.PIPE
    run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=stderr, env=environment(), timeout=DEADLINE, check=True)
    block = b"".join(b"%s\nhalf {0} other half {0}\n".replace(b"%s", b"{0}" * 70000) for _ in range(4))
    for letter in LETTERS.encode():
        each = bytes([letter])
        wanted = block.replace(b"{0}", each)
        if together:
            wanted += b"line %s\n" % each * 4
        else:
            assert b"line %s\n" % each * 4 in run.stderr
        assert wanted in run.stdout
    assert len(run.stdout) == len(LETTERS) * (4 * (70001 + 20) + (4 * 7 if together else 0))


def test_line_buffered_lines_are_never_broken(tmp_path: Path) -> None:
    script = (
        "for n in 1 2 3 4 5; do printf 'out {} '; printf 'err {} ' >&2; echo $n; echo $n >&2; done; printf 'end {}'"
    )
    argv = [*CLI, "-j8", "--line-buffer", "--tag", "--shell", script, ":::", *LETTERS]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment(), "timeout": DEADLINE}
    lines = subprocess.run(argv, check=True, **options).stdout.splitlines()  # type: ignore[call-overload]  # a plain dict
    assert len(lines) == len(LETTERS) * 11
    for letter in LETTERS:
        for stream in ("out", "err"):
            mine = [line for line in lines if line.startswith(f"{letter}\t{stream} ".encode())]
            assert mine == [f"{letter}\t{stream} {letter} {n}".encode() for n in range(1, 6)]
        assert f"{letter}\tend {letter}".encode() in lines


def test_line_buffered_lines_come_while_the_command_runs(release: NamedPipe) -> None:
    script = f"echo early; read x < {release.path}; echo late; : {{}}"
    with running_cli("--line-buffer", "--shell", script, ":::", "1") as process:
        assert process.stdout is not None
        assert read_until(process.stdout.fileno(), b"early\n") == b"early\n"
        release.send()
        assert process.stdout.read() == b"late\n"
        assert process.wait(DEADLINE) == 0


def test_grouped_tags() -> None:
    run = run_cli("-k", "--tag", "printf", "x {}\\ny", ":::", "1", "2")
    assert run.stdout == b"1\tx 1\n1\ty\n2\tx 2\n2\ty\n"


@pytest.mark.parametrize("mode", [[], ["--line-buffer"]], ids=["grouped", "line-buffer"])
def test_keep_order_holds_back_what_ends_early(mode: list[str], ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo {{}}; [ {{}} != 1 ] || read x < {release.path}; echo {{}}; echo {{}} > {ready.path}"
    with running_cli("-k", "-j3", *mode, "--shell", script, ":::", "1", "2", "3") as process:
        assert {ready.wait_blocking(), ready.wait_blocking()} == {b"2", b"3"}
        release.send()
        assert process.stdout is not None
        assert process.stdout.read() == b"1\n1\n2\n2\n3\n3\n"
        assert process.wait(DEADLINE) == 0


def test_as_they_come_without_keep_order(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo {{}}; [ {{}} != 1 ] || read x < {release.path}"
    with running_cli("-j2", "--shell", script, ":::", "1", "2") as process:
        assert process.stdout is not None
        assert read_until(process.stdout.fileno(), b"2\n") == b"2\n"
        release.send()
        assert process.stdout.read() == b"1\n"


def test_as_many_at_once_as_asked_and_no_more(ready: NamedPipe, release: NamedPipe) -> None:
    script = f"echo {{}} > {ready.path}; read x < {release.path}; echo end > {ready.path}"
    with running_cli("-j3", "--shell", script, ":::", *"abcde") as process:
        assert sorted(ready.wait_blocking() for _ in range(3)) == [b"a", b"b", b"c"]
        release.send()
        # The fourth must not have begun before one has ended.
        assert ready.wait_blocking() == b"end"
        assert ready.wait_blocking() == b"d"
        for _ in range(4):
            release.send()
        assert process.wait(DEADLINE) == 0


def test_niceness_reaches_the_commands() -> None:
    assert int(run_cli("--niceness", "3", "--shell", "nice; : {}", ":::", "x").stdout) == niceness_after(3)


def test_rich_and_the_loop_are_left_alone_without_need() -> None:
    code = (
        "import sys; from aiocmdpool.cli import main; status = main(['run', 'true', ':::', 'x']);"
        "assert not {m for m in sys.modules if m.partition('.')[0] == 'rich'}; sys.exit(status)"
    )
    run = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, timeout=DEADLINE)
    assert (run.returncode, run.stderr) == (0, b"")


def test_help_and_usage() -> None:
    run = run_cli("--help")
    assert run.returncode == 0
    for option in ("--jobs", "--halt", "--joblog", "--resume-failed", "--line-buffer", "{/.}", "130"):
        assert option.encode() in run.stdout
    base = [sys.executable, "-m", "aiocmdpool"]
    for arguments, status, stream in (([], 255, "stderr"), (["--help"], 0, "stdout"), (["walk"], 255, "stderr")):
        top = subprocess.run([*base, *arguments], env=environment(), capture_output=True, timeout=DEADLINE)
        assert top.returncode == status
        assert b"usage: aiocmdpool run" in getattr(top, stream)
    assert re.search(rb"no PROGRAM given", run_cli().stderr)
    assert run_cli().returncode == 255


def test_the_version_is_told() -> None:
    argv = [sys.executable, "-m", "aiocmdpool", "--version"]
    run = subprocess.run(argv, env=environment(), capture_output=True, timeout=DEADLINE)
    assert run.returncode == 0
    assert run.stdout.startswith(b"aiocmdpool ")
