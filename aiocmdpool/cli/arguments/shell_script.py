"""`--shell`: turns each placeholder of a script into a positional parameter.

An input is data: it reaches the shell as `$1`, `$2`, …, never as text of the script, so no quote, semicolon or backtick
in it can be interpreted. Quoting the value into the script would fail: inside of the user's own `'{}'` the quotes would
cancel out. The scan below follows the script's quotes only to keep the value one word; where it is wrong (in a
here-document, say), the value may be split at blanks, but is still not code.
"""

import enum
import re


class _Context(enum.Enum):
    PLAIN = "plain"
    SINGLE = "'"
    DOUBLE = '"'
    PAREN = "("
    BACKTICK = "`"


_TOKEN = re.compile(r"\\.|\$\(|['\"`()]|(?:^|(?<=[\s;&|(]))#[^\n]*|[^\\$'\"`()#{]+|.", re.DOTALL)

_SPECIAL = "\\$'\"`()#"


def parametrize(script: str, placeholder: re.Pattern[str]) -> tuple[str, list[str]]:
    """Return the script with references to `$1`, `$2`, …, and the placeholder that each of these stands for.

    A placeholder after a backslash stays as it is, and so does the shell's own `${#}`.
    """
    names: list[str] = []
    written: list[str] = []
    contexts = [_Context.PLAIN]
    position = 0
    while position < len(script):
        hole = placeholder.match(script, position)
        if hole is not None and script[position - 1 : position] != "$":
            if hole[0] not in names:
                names.append(hole[0])
            written.append(_reference(names.index(hole[0]) + 1, contexts[-1]))
            position = hole.end()
            continue
        token = _token(script, position, contexts[-1])
        if token[0] not in _SPECIAL and (ahead := placeholder.search(script, position + 1)) is not None:
            token = token[: ahead.start() - position]  # a placeholder may begin with any character
        _follow(contexts, token)
        written.append(token)
        position += len(token)
    return "".join(written), names


def _token(script: str, position: int, context: _Context) -> str:
    match = _TOKEN.match(script, position)
    assert match is not None  # the last alternative matches any character
    token = match[0]
    if context is _Context.SINGLE and token[0] == "\\":
        return token[0]  # no escapes there
    if context in (_Context.SINGLE, _Context.DOUBLE) and token[0] == "#":
        return token[0]  # no comments there
    return token


def _follow(contexts: list[_Context], token: str) -> None:
    """Enter or leave a quotation or a substitution, depending on the token."""
    here = contexts[-1]
    if token == here.value and here in (_Context.SINGLE, _Context.DOUBLE, _Context.BACKTICK):
        contexts.pop()
    elif here is _Context.SINGLE:
        return
    elif token == "$(":
        contexts.append(_Context.PAREN)
    elif token == "`":
        contexts.append(_Context.BACKTICK)
    elif here is _Context.DOUBLE:
        return
    elif token in ("'", '"', "("):
        contexts.append(_Context(token))
    elif token == ")" and here is _Context.PAREN:
        contexts.pop()


def _reference(number: int, context: _Context) -> str:
    if context is _Context.SINGLE:
        return f"'\"${{{number}}}\"'"
    if context is _Context.DOUBLE:
        return f"${{{number}}}"
    return f'"${{{number}}}"'
