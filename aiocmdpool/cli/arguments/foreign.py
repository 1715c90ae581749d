"""Advice about options of xargs and GNU parallel that do not exist here. Text only.

No option or placeholder of theirs is passed on as if it were data.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

_NOT_HERE = "there is no such thing here"
ADVICE = {
    "--bar": "type --progress",
    "--eta": "type --progress",
    "--lb": "type --line-buffer",
    "--linebuffer": "type --line-buffer",
    "-u": "type --line-buffer: whole lines, as they come",
    "--ungroup": "type --line-buffer: whole lines, as they come",
    "--group": "leave it out: output comes in one piece for each command",
    "--dryrun": "type --dry-run",
    "--keeporder": "type --keep-order",
    "--nice": "type --niceness",
    "--max-procs": "type --jobs",
    "--halt-on-error": "type --halt",
    "--retry-failed": "type --resume-failed, with --joblog",
    "--retry": "type --retries",
    "--termseq": "type --grace SECONDS: TERM, then KILL",
    "--tmpdir": "set the variable TMPDIR",
    "--will-cite": "leave it out",
    "--citation": "leave it out",
    "-i": "leave it out: {} is replaced anyway; for another placeholder type -I STR",
    "-t": "type --dry-run to see the commands; --joblog FILE keeps them",
    "-v": "type --dry-run to see the commands; --joblog FILE keeps them",
    "--verbose": "type --dry-run to see the commands; --joblog FILE keeps them",
    "-p": f"{_NOT_HERE}: nobody is asked before a command; try --dry-run",
    "--interactive": f"{_NOT_HERE}: nobody is asked before a command; try --dry-run",
    "-X": "each command is given one input; leave it out",
    "-m": "each command is given one input; leave it out",
    "-x": "each command is given one input; leave it out",
    "-s": "each command is given one input; leave it out",
    "--max-args": "each command is given one input; leave it out",
    "--max-lines": "each command is given one input; leave it out",
    "--max-replace-args": "each command is given one input; leave it out",
    "-C": "inputs have one column; cut it in the command: --shell 'echo {} | cut -d, -f1'",
    "--colsep": "inputs have one column; cut it in the command: --shell 'echo {} | cut -d, -f1'",
    "--link": "join the lists before: paste A B | aiocmdpool run …",
    "--xapply": "join the lists before: paste A B | aiocmdpool run …",
    "--pipe": f"{_NOT_HERE}: commands read no input; cut it into files with split",
    "--pipepart": f"{_NOT_HERE}: commands read no input; cut it into files with split",
    "--block": f"{_NOT_HERE}: commands read no input; cut it into files with split",
    "-E": "end the list before: sed '/END/Q' | aiocmdpool run …",
    "--results": "redirect in the command: --shell 'PROGRAM {} > {/}.out'",
    "--files": "redirect in the command: --shell 'PROGRAM {} > {/}.out'",
    "--shuf": "shuffle before: shuf | aiocmdpool run …",
    "--wd": "change there before: cd DIR && aiocmdpool run …",
    "--workdir": "change there before: cd DIR && aiocmdpool run …",
    "--env": "leave it out: commands have the environment of the command line",
    "--tagstring": "type --tag",
    "--arg-sep": "inputs come after :::",
    "-S": f"{_NOT_HERE}: commands run on this machine",
    "--sshlogin": f"{_NOT_HERE}: commands run on this machine",
    "--delay": f"{_NOT_HERE}; with -j 1 and --shell 'PROGRAM {{}}; sleep 1' commands keep a distance",
    "--load": f"{_NOT_HERE}; lower -j, or type --niceness 19",
    "--memfree": f"{_NOT_HERE}; lower -j",
}
"""Advice for each option of theirs: what to type instead."""

PLACEHOLDER = re.compile(
    r"(?<![$\\])\{(?:%|-?\d+(?:\.+|/\.*|//)?|\.{2,}|/\.{2,}|\+(?:/?\.*|//)|0+#|#{2,}|[=].*?=)\}", re.DOTALL
)
"""Placeholders of GNU parallel that do not exist here; not after a shell's `$` or a backslash."""


def option_advice(option: str, known: Iterable[str]) -> str:
    """Return advice about an unknown option, beginning with a semicolon; empty if there is none."""
    name = option.partition("=")[0]
    advice = ADVICE.get(name) or ADVICE.get(name[:2] if not name.startswith("--") else name)
    if advice:
        return f"; {advice}"
    close = difflib.get_close_matches(name, [each for each in known if each.startswith("--")], n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def placeholder_problem(words: Sequence[str]) -> str | None:
    """Return a message about a foreign placeholder in the words of a command; `None` if there is none."""
    for word in words:
        match = PLACEHOLDER.search(word)
        if match is not None:
            return (
                f"{match[0]} is a placeholder of GNU parallel and none here, where there are {{}} {{.}} {{/}} {{//}} "
                f"{{/.}} {{#}}; if it is to stay as it is, choose a placeholder of your own: -I @@"
            )
    return None
