"""Placeholders: what they stand for, and that nothing else changes."""

import os
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocmdpool.cli.arguments.template import SUBSTITUTES, Template, directory, last_component, without_extension

PATHS = [
    "a",
    "a/b",
    "a/b/",
    "/",
    "//",
    "/b",
    "a//b",
    "",
    ".",
    "..",
    "a/..",
    "b.tar.gz",
    ".profile",
    "x/.profile",
    "a.b/c",
]
TEXTS = st.binary(max_size=40).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
PLACEHOLDERS = st.sampled_from(list(SUBSTITUTES))
LITERALS = st.text(st.characters(exclude_characters="{}\0", exclude_categories=["Cs"]), max_size=8)


@pytest.mark.parametrize(
    ("placeholder", "expected"),
    [
        ("{}", "dir/photo.tar.gz"),
        ("{.}", "dir/photo.tar"),
        ("{/}", "photo.tar.gz"),
        ("{//}", "dir"),
        ("{/.}", "photo.tar"),
        ("{#}", "7"),
    ],
)
def test_each_placeholder_stands_for_its_part(placeholder: str, expected: str) -> None:
    assert Template(["x", placeholder]).argv("dir/photo.tar.gz", 7) == ["x", expected]
    assert Template(["x", f"<{placeholder}|{placeholder}>"]).argv("dir/photo.tar.gz", 7) == [
        "x",
        f"<{expected}|{expected}>",
    ]


def test_an_input_without_a_placeholder_becomes_the_last_argument() -> None:
    assert Template(["x", "-v"]).argv("a b", 1) == ["x", "-v", "a b"]


def test_the_program_may_be_a_placeholder() -> None:
    assert Template(["{}", "--version"]).argv("ls", 1) == ["ls", "--version"]


def test_other_braces_are_text() -> None:
    words = ["x", "{1}", "${HOME}", "{ }", "{/..}", "{##}", "{"]
    assert Template([*words, "{}"]).argv("in", 1) == [*words, "in"]


@pytest.mark.parametrize("path", [path for path in PATHS if path])
def test_basename_and_dirname_are_those_of_the_system(path: str) -> None:
    for tool, ours in (("basename", last_component), ("dirname", directory)):
        theirs = subprocess.run([tool, path], check=True, capture_output=True, text=True).stdout.removesuffix("\n")
        assert ours(path) == theirs.replace("//", "/")


def test_a_leading_dot_is_no_extension() -> None:
    assert without_extension("x/.profile") == "x/.profile"
    assert without_extension("a.b/c") == "a.b/c"


@given(
    parts=st.lists(st.tuples(PLACEHOLDERS, LITERALS), min_size=1, max_size=6),
    first=LITERALS,
    text=TEXTS,
    number=st.integers(1, 10**9),
)
@example(parts=[("{}", ""), ("{}", "")], first="", text="{}{.}{#}", number=3)
def test_substitution_is_one_pass_over_the_template(
    parts: list[tuple[str, str]], first: str, text: str, number: int
) -> None:
    template = first + "".join(placeholder + literal for placeholder, literal in parts)
    expected = first + "".join(SUBSTITUTES[placeholder](text, number) + literal for placeholder, literal in parts)
    assert Template(["x", template]).argv(text, number) == ["x", expected]


@given(text=TEXTS)
def test_what_a_placeholder_loses_is_only_what_it_says(text: str) -> None:
    stem = without_extension(text)
    assert text.startswith(stem)
    assert text[len(stem) :] == "" or text[len(stem)] == "."
    if "/" in text.rstrip("/"):
        assert text.rstrip("/").endswith("/" + last_component(text))
        assert text.startswith(directory(text))
