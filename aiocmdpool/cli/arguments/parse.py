"""`parse_run`: parses the command line of `aiocmdpool run`; usage errors exit with status 255."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from aiocmdpool.cli.arguments import values
from aiocmdpool.cli.arguments.foreign import option_advice, placeholder_problem
from aiocmdpool.cli.arguments.halt import NEVER
from aiocmdpool.cli.arguments.help_text import DESCRIPTION, EPILOG
from aiocmdpool.cli.arguments.options import RunOptions
from aiocmdpool.cli.resume import Resume
from aiocmdpool.cli.stop import OTHER_ERROR_STATUS
from aiocmdpool.commands.command import DEFAULT_GRACE
from aiocmdpool.system.cpus import cpu_count

GIVEN_INPUTS, INPUT_FILE = ":::", "::::"
LINKED = (":::+", "::::+")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):  # a value may be there, but argparse takes it for an option
            message += "; write one that begins with a dash without a blank, as in -j-1 or --jobs=-1"
        self.print_usage(sys.stderr)
        self.exit(OTHER_ERROR_STATUS, f"{self.prog}: {message}\n")


class _Once(argparse.Action):
    """An argparse action that stores a value, and refuses a second one."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} twice: there is one list of inputs; join them before: cat A B | aiocmdpool run …")
        setattr(namespace, self.dest, value)


def parse_run(arguments: Sequence[str]) -> RunOptions:
    """Return the options in the arguments after `run`.

    Raises:
        SystemExit: After the help, or after a usage error.
    """
    parser = _parser()
    words, inputs, files = _split(arguments)
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        advice = option_advice(unknown[0], parser._option_string_actions)
        parser.error(f"unrecognized option {unknown[0]}{advice}")
    fields = vars(namespace)
    del fields["one_input"], fields["run_if_any"]
    template = fields.pop("template")
    fields["template"] = tuple(template[1:] if template[:1] == ["--"] else template)
    if len(files) == 1 and fields["input_file"] is None:
        fields["input_file"], files = files[0], ()
    options = RunOptions(inputs=inputs, **fields)
    problem = _wrong_inputs(options, arguments, files) or _contradiction(options)
    if problem:
        parser.error(problem)
    return options


def _split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...] | None, tuple[str, ...]]:
    """Return options and command, the inputs after `:::`, and the files after `::::`."""
    words = list(arguments)
    at = next((place for place, word in enumerate(words) if word in (GIVEN_INPUTS, INPUT_FILE)), None)
    if at is None:
        return words, None, ()
    rest = tuple(words[at + 1 :])
    return (words[:at], rest, ()) if words[at] == GIVEN_INPUTS else (words[:at], None, rest)


def _wrong_inputs(options: RunOptions, arguments: Sequence[str], files: tuple[str, ...]) -> str | None:
    """Return a message about contradicting sources of inputs; `None` if there is no contradiction."""
    for word in LINKED:
        if word in arguments:
            return f"{word} is not supported; join the lists before: paste A B | aiocmdpool run …"
    if options.inputs is not None and options.input_file is not None:
        return "inputs come either after ::: or from --arg-file, not both"
    if options.inputs is not None and GIVEN_INPUTS in options.inputs:
        return "a second ::: is not supported; give all inputs after one"
    if options.inputs is not None and INPUT_FILE in options.inputs:
        return "::: and :::: together are not supported; join the lists before: cat A B | aiocmdpool run …"
    if files:
        return "there is one list of inputs; join the files before: cat A B | aiocmdpool run …"
    if options.input_file is None and INPUT_FILE in arguments:
        return ":::: needs a file; or leave it out to read standard input"
    return None


def _contradiction(options: RunOptions) -> str | None:
    if not options.template:
        return "no PROGRAM given; try: aiocmdpool run echo {} ::: a b c"
    if options.replace is None:
        problem = placeholder_problem(options.template)
        if problem:
            return problem
    elif not any(options.replace in word for word in options.template):
        return f"-I {options.replace}: the command has no {options.replace}"
    if options.resume is not Resume.NOTHING and options.job_log is None:
        return "--resume and --resume-failed need --joblog FILE to know what was done"
    if options.progress and options.quiet:
        return "--progress and --quiet contradict each other"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="aiocmdpool run",
        usage="aiocmdpool run [options] PROGRAM [ARG...] [::: INPUT...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("template", nargs=argparse.REMAINDER, metavar="PROGRAM [ARG...]", help="the command, with placeholders")
    add("-a", "--arg-file", dest="input_file", action=_Once, metavar="FILE", help="read inputs from FILE, not stdin")
    null = "inputs end in NUL, not newline (find -print0)"
    add("-0", "--null", dest="separator", action="store_const", const=b"\0", default=b"\n", help=null)
    add(
        "-d",
        "--delimiter",
        dest="separator",
        type=values.separator,
        metavar="CHAR",
        help="inputs end in this character, or \\n, \\t, \\0",
    )
    add(
        "-I",
        "--replace",
        dest="replace",
        type=values.placeholder,
        metavar="STR",
        help="replace STR by the input, no {}",
    )
    add("-n", "-N", "-L", dest="one_input", type=values.one_input, help=argparse.SUPPRESS)
    add("-r", "--no-run-if-empty", dest="run_if_any", action="store_true", help=argparse.SUPPRESS)
    add("--shell", action="store_true", help="the command is a script for /bin/sh; inputs stay data")
    _add_execution(parser)
    _add_output(parser)
    return parser


def _add_execution(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    add = group.add_argument
    jobs = "commands at once: 8, 200%%, +2 (default: CPUs)"
    add("-j", "-P", "--jobs", type=values.jobs, default=cpu_count(), metavar="N", help=jobs)
    add("--timeout", type=values.seconds, metavar="SECONDS", help="end a command that runs longer: 90, 5m, 1h30m")
    add("--grace", type=values.seconds, default=DEFAULT_GRACE, metavar="SECONDS", help="from TERM to KILL (default: 2)")
    add("--detach", action="store_true", help="leave alone what a command leaves running when it ends")
    add("--retries", type=values.whole(0), default=0, metavar="N", help="more attempts for a command that fails")
    add(
        "--halt",
        type=values.halt,
        default=NEVER,
        metavar="WHEN",
        help="never; now or soon; soon,fail=3; now,fail=10%%",
    )
    add("--niceness", type=values.whole(0, 19), default=0, metavar="N", help="run commands at lower priority, 0 to 19")
    add("--joblog", dest="job_log", metavar="FILE", help="write a JSON line for each finished command")
    choice = group.add_mutually_exclusive_group().add_argument
    choice("--resume", action="store_const", const=Resume.DONE, help="skip what the job log says was done")
    choice(
        "--resume-failed", dest="resume", action="store_const", const=Resume.SUCCEEDED, help="skip only what succeeded"
    )
    parser.set_defaults(resume=Resume.NOTHING)
    add("--trace", metavar="FILE", help="write the timeline, for ui.perfetto.dev or chrome://tracing")
    add("--dry-run", action="store_true", help="print the commands, quoted for a shell, and run nothing")


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("-k", "--keep-order", action="store_true", help="output in the order of the inputs")
    add("--line-buffer", action="store_true", help="output line by line, as it comes")
    add("--tag", action="store_true", help="begin each line with its input and a tab")
    limit = "a command that writes more is ended, and fails: 64K, 10M, 1G (default: none)"
    add("--max-output", type=values.size, metavar="BYTES", help=limit)
    add("--progress", action="store_true", default=None, help="a progress bar, and a summary (default: on a terminal)")
    add("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add("-q", "--quiet", action="store_true", help="neither bar nor summary")
