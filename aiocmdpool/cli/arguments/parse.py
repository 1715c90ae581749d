"""The command line of `aiocmdpool run`, as a frozen `RunOptions`; usage errors leave with status 255."""

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from aiocmdpool.cli.arguments.halt import NEVER, HaltPolicy, parse_halt
from aiocmdpool.cli.arguments.help_text import DESCRIPTION, EPILOG
from aiocmdpool.cli.job_log import Resume
from aiocmdpool.cli.stop import OTHER_ERROR_STATUS
from aiocmdpool.commands.command import DEFAULT_GRACE, DEFAULT_MAX_OUTPUT
from aiocmdpool.system.cpus import cpu_count

GIVEN_INPUTS = ":::"
_SIZE = re.compile(r"([0-9]+)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `aiocmdpool run` was asked for. Units are seconds and bytes."""

    template: tuple[str, ...]
    inputs: tuple[str, ...] | None = None
    """Those after `:::`; `None`: they are read from `input_file`."""
    input_file: str | None = None
    """`None`: standard input."""
    nul: bool = False
    shell: bool = False
    jobs: int = 1
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    retries: int = 0
    halt: HaltPolicy = NEVER
    keep_order: bool = False
    line_buffer: bool = False
    tag: bool = False
    job_log: str | None = None
    resume: Resume = Resume.NOTHING
    trace: str | None = None
    dry_run: bool = False
    max_output: int = DEFAULT_MAX_OUTPUT
    niceness: int = 0
    progress: bool | None = None
    """`None`: where standard error is a terminal."""
    quiet: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(OTHER_ERROR_STATUS, f"{self.prog}: {message}\n")


def parse_run(arguments: Sequence[str]) -> RunOptions:
    """The options in the arguments after `run`.

    Raises:
        SystemExit: After the help, or after a usage error.
    """
    words = list(arguments)
    inputs: tuple[str, ...] | None = None
    if GIVEN_INPUTS in words:
        at = words.index(GIVEN_INPUTS)
        words, inputs = words[:at], tuple(words[at + 1 :])
    parser = _parser()
    fields = vars(parser.parse_args(words))
    template = fields.pop("template")
    fields["template"] = tuple(template[1:] if template[:1] == ["--"] else template)
    options = RunOptions(inputs=inputs, **fields)
    problem = _contradiction(options)
    if problem:
        parser.error(problem)
    return options


def _contradiction(options: RunOptions) -> str | None:
    if not options.template:
        return "no PROGRAM given; try: aiocmdpool run echo {} ::: a b c"
    if options.inputs is not None:
        if options.input_file is not None:
            return "inputs come either after ::: or from --arg-file, not both"
        if GIVEN_INPUTS in options.inputs:
            return "a second ::: is not supported; give all inputs after one"
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
    add("-a", "--arg-file", dest="input_file", metavar="FILE", help="read inputs from FILE instead of stdin")
    add("-0", "--null", dest="nul", action="store_true", help="inputs end in NUL, not newline (find -print0)")
    add("--shell", action="store_true", help="the command is a script for /bin/sh; inputs stay data")
    _add_execution(parser)
    _add_output(parser)
    return parser


def _add_execution(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    add = group.add_argument
    add("-j", "--jobs", type=_whole(1), default=cpu_count(), metavar="N", help="commands at once (default: CPUs)")
    add("--timeout", type=_seconds, metavar="SECONDS", help="end a command that runs longer")
    add("--grace", type=_seconds, default=DEFAULT_GRACE, metavar="SECONDS", help="from TERM to KILL (default: 2)")
    add("--retries", type=_whole(0), default=0, metavar="N", help="more attempts for a command that fails")
    add(
        "--halt",
        type=_halt,
        default=NEVER,
        metavar="WHEN",
        help="never; now or soon; soon,fail=3; now,fail=10%%",
    )
    add("--niceness", type=_whole(0, 19), default=0, metavar="N", help="run commands at lower priority, 0 to 19")
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
    add(
        "--max-output",
        type=_size,
        default=DEFAULT_MAX_OUTPUT,
        metavar="BYTES",
        help="captured; a command that writes more fails",
    )
    add("--progress", action="store_true", default=None, help="a progress bar, and a summary (default: on a terminal)")
    add("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add("-q", "--quiet", action="store_true", help="neither bar nor summary")


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            span = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {span}")
        return int(text)

    return convert


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 65536, 64k, 10M, 1G")
    return int(match[1]) * _UNITS[match[2].lower()]


def _halt(text: str) -> HaltPolicy:
    try:
        return parse_halt(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
