"""What can go wrong before anything runs: opening inputs, job log and trace, checking what the options need."""

import dataclasses
import errno
import os
import resource
import sys

from aiocmdpool.cli.arguments.parse import RunOptions
from aiocmdpool.cli.inputs import GivenInputs, InputError, Inputs, StreamInputs
from aiocmdpool.cli.job_log import FinishedJobs, JobLogError, Resume, open_job_log, read_job_log
from aiocmdpool.cli.output.progress import has_rich
from aiocmdpool.observability.chrome_trace import ChromeTrace

STDIN = 0
PIPES_PER_JOB = 4  # descriptors of a command with --line-buffer
SPARE_DESCRIPTORS = 64  # for everything else


class PrepareError(Exception):
    """The run cannot begin; the message is for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """What a run works on."""

    inputs: Inputs
    finished_before: FinishedJobs
    log_fd: int | None
    """The job log, to append to; `None` where there is none."""
    trace: ChromeTrace | None


def prepare(options: RunOptions) -> Prepared:
    """Open what the options name.

    Raises:
        PrepareError: Something cannot be opened or is missing.
    """
    if options.progress and not has_rich():
        raise PrepareError("--progress needs the package rich; install it with: pip install 'aiocmdpool[cli]'")
    if options.line_buffer:
        _check_descriptors(options.jobs)
    try:
        inputs = _open_inputs(options)
        finished, log_fd = _open_log(options)
    except (InputError, JobLogError) as error:
        raise PrepareError(str(error)) from None
    return Prepared(inputs, finished, log_fd, _open_trace(options))


def _open_inputs(options: RunOptions) -> Inputs:
    if options.inputs is not None:
        return GivenInputs(options.inputs)
    separator = b"\0" if options.nul else b"\n"
    if options.input_file is None:
        if os.isatty(STDIN) and not options.quiet:
            print("aiocmdpool: reading inputs from the terminal; end them with Ctrl-D", file=sys.stderr)
        return StreamInputs(STDIN, "standard input", separator)
    try:
        # Before the loop runs: opening a named pipe waits for its writer, and Ctrl-C still works.
        fd = os.open(options.input_file, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot read {options.input_file}: {error.strerror}") from None
    return StreamInputs(fd, options.input_file, separator)


def _open_log(options: RunOptions) -> tuple[FinishedJobs, int | None]:
    if options.job_log is None:
        return FinishedJobs(), None
    keep = options.resume is not Resume.NOTHING
    finished = read_job_log(options.job_log) if keep else FinishedJobs()
    for warning in finished.warnings:
        print(f"aiocmdpool: warning: {warning}", file=sys.stderr)
    if options.dry_run:
        return finished, None
    return finished, open_job_log(options.job_log, keep=keep, ends_cut=finished.ends_cut)


def _open_trace(options: RunOptions) -> ChromeTrace | None:
    if options.trace is None or options.dry_run:
        return None
    try:
        return ChromeTrace(options.trace, name="aiocmdpool run")
    except OSError as error:
        hint = "; it must be a file, not a pipe" if error.errno in (errno.ESPIPE, errno.ENXIO) else ""
        raise PrepareError(f"cannot write the trace {options.trace}: {error.strerror}{hint}") from None


def _check_descriptors(jobs: int) -> None:
    needed = PIPES_PER_JOB * (jobs + 1) + SPARE_DESCRIPTORS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise PrepareError(
            f"--line-buffer with {jobs} jobs needs {needed} descriptors and the limit is {limit}; "
            f"lower -j, or raise the limit with: ulimit -n {needed}"
        )
