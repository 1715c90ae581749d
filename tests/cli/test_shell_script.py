"""`--shell`: an input is data, wherever the placeholder stands in the script."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocmdpool.cli.arguments.template import Template

NASTY = "a  b'\"`$(echo no)$HOME;*\\\n|&>x{}{.}"

CONTEXTS = [
    "printf %s {}",
    'printf %s "{}"',
    "printf %s '{}'",
    'printf %s "$(printf %s "{}")"',
    'printf %s "$(printf %s {})"',
    "printf %s `printf x >/dev/null`{}",
    "(printf %s {})",
    "# it's a comment\nprintf %s {}",
    "echo '# it' >/dev/null; printf %s '{}'",
    'x={}; printf %s "$x"',
    'x=\\"; printf %s "{}"',
    "case a in a) printf %s {};; esac",
    'x="a#b"; printf %s {} # {}',
]


def shell(script: str, text: str, number: int = 1) -> str:
    argv = Template([script], shell=True).argv(text, number)
    assert argv[:2] == ["/bin/sh", "-c"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("script", CONTEXTS)
def test_an_input_arrives_whole_in_every_quotation(script: str) -> None:
    assert shell(script, NASTY) == NASTY


def test_words_are_joined_and_the_input_is_appended() -> None:
    argv = Template(["printf", "%s", "|", "cat"], shell=True).argv("x", 1)
    assert argv == ["/bin/sh", "-c", 'printf %s | cat "${1}"', "sh", "x"]


def test_each_placeholder_is_one_parameter() -> None:
    assert shell("echo {#} {/.} {} {#} '{}'", "d/a b.c", 4) == "4 a b d/a b.c 4 d/a b.c\n"


def test_the_ninth_parameter_and_beyond_keep_their_number() -> None:
    assert shell("echo {}0 {.}1", "a.b") == "a.b0 a1\n"


def test_a_backslash_and_the_count_of_parameters_stay_with_the_shell() -> None:
    assert shell("printf '%s ' \\{} ${#} {}", "x") == "{} 1 x "


@settings(deadline=None, max_examples=150)
@given(script=st.text("{}'\"`$()\\#;ab \n.", max_size=30))
def test_no_script_ever_runs_an_input(tmp_path_factory: pytest.TempPathFactory, script: str) -> None:
    place = tmp_path_factory.getbasetemp()
    argv = Template([script], shell=True).argv(
        "; touch PWNED; `touch PWNED` $(touch PWNED) '\"; touch PWNED\n touch PWNED\n", 1
    )
    assert "PWNED" not in argv[2]
    # Most of these scripts are nonsense; all that matters is what they do not do.
    subprocess.run(argv, check=False, cwd=place, stdin=subprocess.DEVNULL, capture_output=True)
    assert not (place / "PWNED").exists()
