"""The streams of a command: what goes in, what comes out, and where to."""

import asyncio
import os
from pathlib import Path

import pytest

from aiocmdpool.commands.command import CommandConfig, Stdio

from .support import helper, pattern, run_host, sh


@pytest.mark.parametrize("count", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
async def test_both_outputs_are_captured_whole(backend, count):
    result = await backend.execute(helper("write_n_bytes", count, "both"))
    assert result.returncode == 0
    assert result.stdout == result.stderr == pattern(count)
    assert not result.truncated


@pytest.mark.parametrize("count", [0, 1, 8_192, 8_193, 65_536, 219_263, 219_264, 1_000_000])
async def test_input_is_fed_whole_while_output_is_drained(backend, count):
    result = await backend.execute(CommandConfig("cat", stdin=pattern(count)))
    assert result.returncode == 0
    assert result.stdout == pattern(count)
    assert result.stderr == b""


async def test_every_byte_value_survives_the_round_trip(backend):
    data = bytes(range(256)) + b"\r\n\0\n\n"
    result = await backend.execute(CommandConfig("cat", stdin=data))
    assert result.stdout == data


async def test_stdin_is_the_null_device_unless_said_otherwise(backend):
    result = await backend.execute(sh("cat; test /proc/self/fd/0 -ef /dev/null"))
    assert (result.returncode, result.stdout) == (0, b"")


async def test_null_input_is_at_its_end(backend):
    result = await backend.execute(CommandConfig("cat", stdin=Stdio.NULL))
    assert (result.returncode, result.stdout) == (0, b"")


async def test_null_output_is_none(backend):
    result = await backend.execute(sh("echo out; echo err >&2", stdout=Stdio.NULL))
    assert result.stdout is None
    assert result.stderr == b"err\n"
    result = await backend.execute(sh("echo out; echo err >&2", stderr=Stdio.NULL))
    assert result.stdout == b"out\n"
    assert result.stderr is None
    result = await backend.execute(sh("echo out; echo err >&2", stdout=Stdio.NULL, stderr=Stdio.NULL))
    assert result.stdout is result.stderr is None


async def test_merged_stderr_keeps_the_order_of_writes(backend):
    result = await backend.execute(helper("merged_order", stderr=Stdio.MERGED))
    assert result.stdout == b"12344321"
    assert result.stderr is None


async def test_separate_streams_keep_their_own_order(backend):
    result = await backend.execute(helper("merged_order"))
    assert (result.stdout, result.stderr) == (b"1342", b"2431")


async def test_stderr_merged_into_a_file(backend, tmp_path):
    result = await backend.execute(helper("merged_order", stdout=tmp_path / "both", stderr=Stdio.MERGED))
    assert (tmp_path / "both").read_bytes() == b"12344321"
    assert result.stdout is result.stderr is None


async def test_stderr_merged_into_nothing(backend):
    result = await backend.execute(helper("merged_order", stdout=Stdio.NULL, stderr=Stdio.MERGED))
    assert result.stdout is result.stderr is None
    assert result.returncode == 0


async def test_a_program_that_closes_stdin_early_is_no_error(backend, ready, release):
    running = asyncio.ensure_future(
        backend.execute(helper("close_stdin_early", ready.path, release.path, stdin=bytes(1_000_000)))
    )
    await ready.wait()
    release.send()
    result = await running
    assert (result.returncode, result.stdout) == (0, b"fine")


async def test_a_program_that_never_reads_its_input_is_no_error(backend):
    result = await backend.execute(CommandConfig("true", stdin=bytes(1_000_000)))
    assert result.returncode == 0


async def test_a_pipeline_whose_head_leaves_first_is_no_error(backend):
    result = await backend.execute(sh("head -c 3", stdin=b"abc" + bytes(1_000_000)))
    assert (result.returncode, result.stdout) == (0, b"abc")


async def test_stdin_from_a_file(backend, tmp_path):
    path = tmp_path / "in"
    path.write_bytes(pattern(100_000))
    result = await backend.execute(CommandConfig("cat", stdin=path))
    assert result.stdout == pattern(100_000)


async def test_outputs_into_files_create_and_truncate_them(backend, tmp_path):
    out, err = tmp_path / "out", tmp_path / "err"
    err.write_bytes(b"a much longer text from before")
    result = await backend.execute(sh("echo out; echo err >&2", stdout=out, stderr=err))
    assert (out.read_bytes(), err.read_bytes()) == (b"out\n", b"err\n")
    assert result.stdout is result.stderr is None


async def test_files_are_relative_to_this_process_and_not_to_the_cwd_of_the_command(backend, tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (here / "in").write_text("text")
    await backend.execute(CommandConfig("cat", stdin=Path("in"), stdout="out", cwd=there))
    assert (here / "out").read_text() == "text"


async def test_descriptors_as_streams_stay_the_callers(backend, tmp_path):
    path = tmp_path / "all"
    with path.open("w+b") as file, (tmp_path / "in").open("w+b") as source:
        source.write(b"skipped|data")
        source.flush()
        source.seek(8)
        file.write(b"before ")
        file.flush()
        command = CommandConfig("cat", stdin=source.fileno(), stdout=file.fileno(), stderr=Stdio.MERGED)
        result = await backend.execute(command)
        file.write(b" after")
        assert result.stdout is result.stderr is None
    assert path.read_bytes() == b"before data after"


async def test_one_descriptor_for_both_outputs(backend, tmp_path):
    with (tmp_path / "both").open("w+b") as file:
        await backend.execute(helper("merged_order", stdout=file.fileno(), stderr=file.fileno()))
    assert (tmp_path / "both").read_bytes() == b"12344321"


async def test_a_conversation_over_descriptors(backend):
    question_read, question_write = os.pipe()
    answer_read, answer_write = os.pipe()
    command = helper("echo_lines", stdin=question_read, stdout=answer_write)
    running = asyncio.ensure_future(backend.execute(command))
    for word in (b"ping", b"pong", b"over"):
        os.write(question_write, word)
        assert await asyncio.to_thread(os.read, answer_read, 100) == word.upper()
    for descriptor in (question_read, question_write, answer_write):
        os.close(descriptor)
    assert (await running).returncode == 0
    os.close(answer_read)


async def test_the_programs_own_streams_can_be_opened_by_name(backend):
    """Sockets for stdio make this fail with ENXIO (uvloop#505)."""
    script = "cat /proc/self/fd/0 > /proc/self/fd/1; echo err > /proc/self/fd/2"
    result = await backend.execute(sh(script, stdin=b"in"))
    assert (result.returncode, result.stdout, result.stderr) == (0, b"in", b"err\n")


async def test_what_was_written_just_before_the_exit_is_read_after_it(backend):
    results = await asyncio.gather(*(backend.execute(helper("write_n_bytes", 60_000)) for _ in range(8)))
    assert {result.stdout for result in results} == {pattern(60_000)}


async def test_commands_that_run_at_once_do_not_mix_their_streams(backend):
    texts = [f"text {number}".encode() for number in range(30)]
    results = await asyncio.gather(*(backend.execute(CommandConfig("cat", stdin=text)) for text in texts))
    assert [result.stdout for result in results] == texts
    assert len({result.pid for result in results}) == len(texts)


async def test_text_is_decoded_with_the_encoding_of_the_command(backend):
    result = await backend.execute(CommandConfig("cat", stdin="naïve €".encode("cp1252"), encoding="cp1252"))
    assert result.text() == "naïve €"
    assert result.text("stderr") == ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_inherited_streams_are_those_of_the_host(backend_name, loop, tmp_path):
    stderr = tmp_path / "stderr"
    with stderr.open("w") as file:
        host = run_host("inherit_streams", backend_name, loop, input="from the host's stdin", stderr=file)
    assert host.stdout.splitlines() == ["from the host's stdin", "(0, None, None)"]
    assert stderr.read_text() == "on the stderr of the host\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_streams_are_right_in_a_host_with_all_its_own_closed(backend_name, loop, tmp_path):
    """Then pipes get the numbers 0, 1 and 2, and a careless dup2 closes one of them."""
    run_host("closed_streams", backend_name, loop, tmp_path / "report")
    assert (tmp_path / "report").read_text() == "(0, b'in', b'err\\n')"


def test_stdout_and_stderr_of_the_host_can_be_swapped(backend_name):
    host = run_host("swapped_streams", backend_name, "asyncio")
    assert host.stdout == "1342"
