"""What runs the guides notices what is wrong in them."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from .documents import steps_of_guide
from .reading import Reading

pytestmark = pytest.mark.slow


@pytest.fixture
def read(tmp_path: Path) -> Iterator[object]:
    """Call it with the text of a guide to read it."""

    def read(text: str) -> dict[str, object]:
        path = tmp_path / "README.md"
        path.write_text(textwrap.dedent(text))
        with Reading(path) as reading:
            for step in steps_of_guide(path):
                reading.follow(step)
        return reading.names

    return read


def test_blocks_share_names_and_a_loop(read) -> None:
    names = read("""
        ```python
        loop = asyncio.get_running_loop()
        pool = CommandPool(ExecutionConfig(workers=1))
        await pool.start_executor()
        ```

        Meanwhile:

        ```python
        same = asyncio.get_running_loop() is loop
        result = await pool.execute(CommandConfig("echo", ["hello"]))
        await pool.stop()
        ```
    """)
    assert names["same"]
    assert names["result"].stdout == b"hello\n"


def test_a_block_without_await_sees_no_running_loop(read) -> None:
    names = read("""
        ```python
        text = aiocmdpool.sync.run("echo", "hello").text()
        ```
    """)
    assert names["text"] == "hello\n"


def test_an_error_names_the_line_of_the_guide(read) -> None:
    with pytest.raises(NameError) as caught:
        read("""
            Text.

            ```python
            fine = 1
            nobody_has_defined_this
            ```
        """)
    assert caught.traceback[-1].lineno + 1 == 6
    assert caught.traceback[-1].path.name == "README.md"


def test_the_code_in_a_comment_is_run(read) -> None:
    with pytest.raises(ZeroDivisionError):
        read("""
            <!-- invisible-code: python
            1 / 0
            -->
        """)


def test_a_block_with_a_reason_is_compiled_alone(read) -> None:
    read("""
        <!-- only compiled: needs a server of its own -->
        ```python
        1 / 0
        ```
    """)
    with pytest.raises(SyntaxError):
        read("""
            <!-- only compiled: needs a server of its own -->
            ```python
            1 /
            ```
        """)


@pytest.mark.parametrize("comment", ["<!-- only compiled -->", "<!-- only compiled: x -->", "<!-- skip: next -->"])
def test_a_block_without_a_reason_is_run(read, comment: str) -> None:
    with pytest.raises(ZeroDivisionError):
        read(f"{comment}\n```python\n1 / 0\n```\n")


def test_an_example_is_compared_with_what_it_shows(read) -> None:
    text = "```python\n>>> (await run('echo', 'hello')).stdout\n{}\n```\n"
    read(text.format("b'hello\\n'"))
    with pytest.raises(AssertionError, match="shows"):
        read(text.format("b'goodbye\\n'"))


def test_a_name_that_is_given_is_there_until_the_end(read) -> None:
    names = read("""
        ```python
        await backend.execute(CommandConfig("true"))
        ```
    """)
    assert names["backend"]


def test_a_task_that_is_left_behind_is_told(read) -> None:
    with pytest.raises(AssertionError, match="leave behind"):
        read("""
            ```python
            task = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
            await asyncio.sleep(0)
            ```
        """)
