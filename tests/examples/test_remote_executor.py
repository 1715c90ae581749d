"""`examples/remote_executor.py`, with programs called ssh and docker that run the command on this machine."""

import json
import os
import pty
import runpy
import shlex
import subprocess
import sys
import types

import pytest
from contract.support import returns_before_programs_end

from aiocmdpool import CommandConfig, CommandPool, ConfigError, ProcessBackend, ResourceLimits

from .support import EXAMPLES, assert_gone, programs_of, soon

example = types.SimpleNamespace(**runpy.run_path(str(EXAMPLES / "remote_executor.py")))

# As sshd: the arguments, joined with blanks, for a shell; as docker: no shell. Both note their arguments.
FAKE = f"""#!{sys.executable} -IS
import json, os, sys
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
argv = sys.argv[1:]
os.environ["OVER_THERE"] = "yes"
if sys.argv[0].endswith("ssh"):
    host, *words = argv[argv.index("--") + 1:]
    if host == "nowhere":
        sys.stderr.write("ssh: no such host\\n")
        sys.exit(255)
    os.execvp("sh", ["sh", "-c", " ".join(words)])
assert argv[:2] == ["exec", "--interactive"]
del argv[:2]
if argv[0] == "--workdir":
    os.chdir(argv[1])
    del argv[:2]
os.execvp(argv[1], argv[1:])
"""
ODD = ["two words", "it's", '"', "$HOME", "`id`", "a\nb", "*", "\\", "ümlaut", "", "-n", "a=b", ";", "#"]
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get('ODD')]))"


@pytest.fixture
def remote(start, tmp_path):
    """Call it with arguments for the example; `.calls()` gives what ssh and docker were called with."""
    (tmp_path / "bin").mkdir()
    for name in ("ssh", "docker"):
        (tmp_path / "bin" / name).write_text(FAKE)
        (tmp_path / "bin" / name).chmod(0o755)
    log = tmp_path / "log"

    def begin(*arguments):
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        process = start("remote_executor", *arguments, PATH=path, FAKE_LOG=str(log))
        process.calls = lambda: [json.loads(line) for line in log.read_text().splitlines()]
        return process

    return begin


@pytest.mark.parametrize("where", ["--ssh", "--docker"])
def test_arguments_directory_and_variables_arrive_as_they_are(remote, tmp_path, where):
    directory = tmp_path / "it's a $directory"
    directory.mkdir()
    options = ["--cwd", directory, "--env", 'ODD=it\'s "$HOME"; `id`\n', "--timeout", 20]
    there = remote(where, "box", *options, "--", sys.executable, "-IS", "-c", SHOW, *ODD)
    name, _, shown = there.line().partition(": ")
    assert (name, json.loads(shown)) == ("box", [ODD, str(directory), 'it\'s "$HOME"; `id`\n'])
    assert (there.wait(), there.errors()) == (0, "")
    [call] = there.calls()
    assert call[0] == where[2:]


def test_everywhere_at_once_and_each_failure_names_its_place(remote):
    there = remote("--ssh", "web1", "--ssh", "nowhere", "--docker", "db", "--", "printenv", "OVER_THERE")
    assert sorted(there.rest()) == ["db: yes", "web1: yes"]
    assert there.wait() == 1
    assert there.errors() == "nowhere: printenv OVER_THERE: exit status 255: ssh: no such host\n"


def test_the_deadline_is_kept_on_both_sides(remote):
    with returns_before_programs_end():
        there = remote("--ssh", "web1", "--timeout", 0.3, "--", "sleep", 60)
        assert there.wait() == 1
    assert there.errors().startswith("web1: sleep 60: ran longer than its timeout of 0.3 s")
    line = example.by_ssh("web1")(CommandConfig("sleep", ["60"], timeout=0.3)).args[-1]
    assert line == "exec timeout --kill-after=2.000 0.300 sleep 60"
    with returns_before_programs_end():  # and if nobody here ends it:
        assert subprocess.run(["sh", "-c", line], check=False).returncode == 124


def test_with_a_terminal_the_other_side_hangs_up():
    script = CommandConfig.shell("echo ready; exec sleep 60", timeout=50, env={"A": "b"}, cwd="/")
    ssh = example.by_ssh("web1", tty=True)(script)
    assert "-tt" in ssh.args
    # What sshd does: a terminal of its own for a new session, closed when the connection is.
    ours, theirs = pty.openpty()
    login = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp('sh', argv)"
    login = login.replace("argv", "sys.argv[1:]")
    argv = [sys.executable, "-ISc", login, "sh", "-c", ssh.args[-1]]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as session, returns_before_programs_end():
        os.close(theirs)
        assert b"ready" in os.read(ours, 100)
        soon(lambda: programs_of(session.pid, "sleep 60"))
        programs = programs_of(session.pid, "sleep 60")
        os.close(ours)
        session.wait()
        assert_gone(programs)


async def test_what_would_only_limit_ssh_is_refused():
    limited = CommandConfig("true", limits=ResourceLimits(cpu_seconds=1))
    async with ProcessBackend() as backend, CommandPool(executor=example.Remote(backend, example.by_ssh("x"))) as pool:
        with pytest.raises(ConfigError, match=r"true: limits, .* are not for remote"):
            await pool.execute(limited)


@pytest.mark.parametrize("rewrite", ["by_ssh", "by_docker"])
def test_words_that_look_like_options_or_variables_are_the_commands_own(rewrite):
    remote = getattr(example, rewrite)("box")(CommandConfig("a=b", ["--x"], env={"GONE": None, "SET": "1"}, timeout=5))
    words = [
        "env",
        "-u",
        "GONE",
        "SET=1",
        "timeout",
        "--kill-after=2.000",
        "5.000",
        "sh",
        "-c",
        'exec "$0" "$@"',
        "a=b",
        "--x",
    ]
    given = shlex.split(remote.args[-1])[1:] if rewrite == "by_ssh" else list(remote.args[-len(words) :])
    assert given == words
    assert (remote.env, remote.cwd) == ({}, None)
