"""`Template`: makes a command of an input, by placeholders in its words. Pure text, no shell.

| placeholder | stands for |
| --- | --- |
| `{}` | the input |
| `{.}` | the input without its extension |
| `{/}` | its last component, as `basename` gives it |
| `{//}` | its directory, as `dirname` gives it |
| `{/.}` | its last component without extension |
| `{#}` | the number of the input, from 1 |

The placeholders are GNU parallel's. Where its regular expressions lose a name (`{.}` of `.profile`, `{/}` of `dir/`),
the meaning is that of `os.path.splitext` and `basename(1)` instead.
"""

import os
import re
from collections.abc import Callable, Sequence

from aiocmdpool.cli.arguments.shell_script import parametrize

Substitute = Callable[[str, int], str]

PLACEHOLDER = re.compile(r"\{(?:\.|/|//|/\.|#)?\}")


def without_extension(path: str) -> str:
    """Return a path without its extension: `a/b.tar.gz` → `a/b.tar`; a leading dot starts a name, not an extension."""
    return os.path.splitext(path)[0]


def last_component(path: str) -> str:
    """Return the last component of a path, like `basename(1)`: `a/b` → `b`, `a/b/` → `b`, `/` → `/`."""
    stripped = path.rstrip("/")
    return stripped.rpartition("/")[2] if stripped else path[:1]


def directory(path: str) -> str:
    """Return the directory of a path, like `dirname(1)`: `a/b` → `a`, `a/b/` → `a`, `b` → `.`, `/b` → `/`."""
    stripped = path.rstrip("/")
    if not stripped:
        return path[:1] or "."
    head, slash, _ = stripped.rpartition("/")
    return head.rstrip("/") or slash or "."


SUBSTITUTES: dict[str, Substitute] = {
    "{}": lambda text, number: text,
    "{.}": lambda text, number: without_extension(text),
    "{/}": lambda text, number: last_component(text),
    "{//}": lambda text, number: directory(text),
    "{/.}": lambda text, number: without_extension(last_component(text)),
    "{#}": lambda text, number: str(number),
}


class Template:
    """A command line with placeholders, which makes the command line of each input.

    Args:
        words: Program and arguments; without any placeholder the input becomes one more argument.
        shell: Whether to join the words into a script for `/bin/sh`. The values become its positional parameters, so
            nothing in an input is ever read as shell code.
        replace: The only placeholder, instead of those above.
    """

    def __init__(self, words: Sequence[str], *, shell: bool = False, replace: str | None = None) -> None:
        placeholder, substitutes = PLACEHOLDER, SUBSTITUTES
        if replace is not None:
            placeholder, substitutes = re.compile(re.escape(replace)), {replace: SUBSTITUTES["{}"]}
        elif not any(map(PLACEHOLDER.search, words)):
            words = [*words, "{}"]
        if shell:
            script, names = parametrize(" ".join(words), placeholder)
            self._words: list[str | Substitute] = [
                "/bin/sh",
                "-c",
                script,
                "sh",
                *(substitutes[name] for name in names),
            ]
        else:
            self._words = [_compile(word, placeholder, substitutes) for word in words]

    @property
    def program(self) -> str | None:
        """Return the program of all commands; `None` if it depends on the input."""
        first = self._words[0]
        return first if isinstance(first, str) else None

    def argv(self, text: str, number: int) -> list[str]:
        """Return the command line for the input `text` with its number."""
        return [word if isinstance(word, str) else word(text, number) for word in self._words]


def _compile(word: str, placeholder: re.Pattern[str], substitutes: dict[str, Substitute]) -> str | Substitute:
    if word in substitutes:
        return substitutes[word]
    names = placeholder.findall(word)
    if not names:
        return word
    # A single pass over the template, so that a placeholder inside of an input stays text.
    literals = placeholder.split(word)
    holes = [(substitutes[name], literal) for name, literal in zip(names, literals[1:], strict=True)]

    def fill(text: str, number: int) -> str:
        return literals[0] + "".join(hole(text, number) + literal for hole, literal in holes)

    return fill
