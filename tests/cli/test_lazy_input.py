"""Inputs are used as they come, and an endless stream of them costs nothing."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from cli.support import DEADLINE, read_until, running_cli

pytestmark = pytest.mark.slow

WARM = 300  # commands before the first measurement
MANY = 1500  # before the second
SLACK = 4 * 1024 * 1024  # bytes; the inputs that were read meanwhile would take more


def test_inputs_are_used_while_the_pipe_stays_open() -> None:
    with running_cli("echo", "got") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"a\n", b"b\n"):
            process.stdin.write(line)
            assert read_until(process.stdout.fileno(), b"\n") == b"got " + line
        process.stdin.write(b"c")
        process.stdin.close()
        assert process.stdout.read() == b"got c\n"
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize("mode", [[], ["-k"], ["--line-buffer"]], ids=["grouped", "keep-order", "line-buffer"])
def test_an_endless_input_takes_no_memory_and_no_descriptors(mode: list[str]) -> None:
    long_line = "x" * 10_000  # 16 MB of them between the measurements
    with (
        subprocess.Popen(["yes", long_line], stdout=subprocess.PIPE) as endless,
        running_cli("-j4", *mode, "echo", "{#}", stdin=endless.stdout) as process,
    ):
        assert endless.stdout is not None
        assert process.stdout is not None
        endless.stdout.close()
        figures: list[tuple[int, int]] = []
        for lines in (WARM, MANY - WARM):
            count_lines(process.stdout.fileno(), lines)
            run = psutil.Process(process.pid)
            figures.append((run.memory_info().rss, run.num_fds()))
        process.stdout.close()
        assert process.wait(DEADLINE) == 141
        endless.wait(DEADLINE)
    (rss_before, fds_before), (rss_after, fds_after) = figures
    assert rss_after - rss_before < SLACK
    assert fds_after - fds_before < 30  # as many as were under way at that moment


def count_lines(fd: int, lines: int) -> None:
    seen = 0
    while seen < lines:
        piece = os.read(fd, 65536)
        assert piece
        seen += piece.count(b"\n")


MODEST = 200 * 1024 * 1024  # bytes; without a mark, what follows would take gigabytes


def wait_until_calm(pid: int) -> int:
    """Wait until a process reads no more; its memory then, in bytes."""
    process = psutil.Process(pid)
    looks, before = 0, -1
    deadline = time.monotonic() + DEADLINE
    while looks < 10:
        assert time.monotonic() < deadline, "it reads on and on"
        assert process.memory_info().rss < MODEST
        now = process.io_counters().read_chars
        looks, before = (looks + 1 if now == before else 0), now
        time.sleep(0.03)
    return int(process.memory_info().rss)


def test_a_slow_reader_holds_the_commands_back() -> None:
    with (
        subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless,
        running_cli("-j2", "--shell", "head -c 1000000 /dev/zero; : {}", stdin=endless.stdout) as process,
    ):
        assert endless.stdout is not None
        assert process.stdout is not None
        endless.stdout.close()
        assert os.read(process.stdout.fileno(), 1) == b"\0"
        assert wait_until_calm(process.pid) < MODEST


@pytest.mark.parametrize("order", [[], ["-k"]], ids=["as-it-comes", "keep-order"])
def test_a_slow_reader_holds_back_commands_that_are_read_line_by_line(order: list[str]) -> None:
    with running_cli("-j2", "--line-buffer", *order, "yes", ":::", "a", "b") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 1)
        assert wait_until_calm(process.pid) < MODEST
        process.send_signal(signal.SIGINT)
        read_until(process.stderr.fileno(), b"2 running commands")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
