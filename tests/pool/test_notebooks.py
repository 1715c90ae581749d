"""What a notebook shows of pools and results: a table, with everything escaped."""

import xml.etree.ElementTree as ElementTree

import pytest

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandPoolSeg,
    ExecutionConfig,
    ExecutionMode,
    ProcessPool,
    execute_pipeline,
)

from .support import InstantExecutor, named, result_of

PROCESS = ExecutionConfig(mode=ExecutionMode.PROCESS)


def rows_of(page: str) -> dict[str, str]:
    """Read the table again; what is not well-formed, or holds markup of a program, is an error."""
    whole = ElementTree.fromstring(page)
    assert {each.tag for each in whole.iter()} <= {"table", "caption", "tbody", "tr", "th", "td", "pre"}
    return {row[0].text: "".join(row[1].itertext()) for row in whole.iter("tr")}


def test_a_result_is_a_table_and_a_program_cannot_write_markup():
    command = CommandConfig("echo", ["<script>"])
    page = result_of(command, stdout=b"<b>&\xff" + b"x" * 9000, returncode=3)._repr_html_()
    rows = rows_of(page)
    assert "&lt;script&gt;" in page
    assert rows["ended"] == "exited, exit status 3"
    assert rows["stdout"].startswith("<b>&\ufffdxx")
    assert rows["stdout"].endswith("… (9005 bytes)")
    assert "stderr" not in rows


@pytest.mark.one_loop
async def test_pools_show_their_counters():
    async with CommandPool(PROCESS, executor=InstantExecutor()) as pool, CommandPoolSeg(PROCESS) as seg:
        await pool.execute(named("a"))
        assert rows_of(pool._repr_html_())["completed"] == "1"
        assert rows_of(seg._repr_html_())["submitted"] == "0"
    async with ProcessPool(1) as workers:
        piped = await execute_pipeline(CommandConfig("echo", ["hi"]) | CommandConfig("cat"), executor=workers)
        assert piped._repr_html_().count("<table>") == 2
        assert rows_of(workers._repr_html_())["wanted"] == "1"
