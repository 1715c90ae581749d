"""Does everything that can fail before the first command: opens inputs, job log and trace, and checks options."""

import dataclasses
import errno
import os
import sys

from aiocmdpool.cli.arguments.options import RunOptions
from aiocmdpool.cli.descriptors import Fit, jobs_that_fit
from aiocmdpool.cli.files import FilesError, FileUses, holds, lock, note_outputs
from aiocmdpool.cli.inputs import GivenInputs, InputError, Inputs, StreamInputs
from aiocmdpool.cli.job_log import JobLogError, begin_job_log, open_job_log
from aiocmdpool.cli.output.progress import has_rich
from aiocmdpool.cli.resume import FinishedJobs, Resume, read_job_log
from aiocmdpool.observability.chrome_trace import ChromeTrace

STDIN = 0


class PrepareError(Exception):
    """The run cannot begin; the message is for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """The files that were opened for a run, and the number of commands that fit."""

    inputs: Inputs
    finished_before: FinishedJobs
    log_fd: int | None
    """Descriptor of the job log, for appending; `None` without one."""
    trace: ChromeTrace | None
    fit: Fit
    """Number of concurrent commands: as many as wanted, or as there are descriptors for."""


def prepare(options: RunOptions) -> Prepared:
    """Open the files that the options name, and check what the options need.

    Raises:
        PrepareError: A file cannot be opened, or something is missing.
    """
    if options.progress and not has_rich():
        raise PrepareError("--progress needs the package rich; install it with: pip install 'aiocmdpool[cli]'")
    try:
        inputs = _open_inputs(options)
        _check_files(options, inputs)
        fit = Fit(1, 0, is_tight=False) if options.dry_run else _fitting_jobs(options)
        finished, log_fd = _open_log(options)
    except (InputError, FilesError, JobLogError) as error:
        raise PrepareError(str(error)) from None
    return Prepared(inputs, finished, log_fd, _open_trace(options), fit)


def _check_files(options: RunOptions, inputs: Inputs) -> None:
    """Check, before any file is emptied, that no file is written that is read, or written for two purposes."""
    uses = FileUses()
    if isinstance(inputs, StreamInputs):
        uses.read(inputs.name, inputs.fd)
    if options.dry_run:
        note_outputs(uses)
        return
    note_outputs(uses)
    for name, path in (("the job log", options.job_log), ("the trace", options.trace)):
        if path is not None:
            uses.write(f"{name} {path}", path)


def _fitting_jobs(options: RunOptions) -> Fit:
    asked = options.jobs if options.inputs is None else max(1, min(options.jobs, len(options.inputs)))
    fit = jobs_that_fit(asked)
    if fit.jobs < asked and not options.quiet:
        why = f"only {fit.jobs} at once instead of {options.jobs}: a process may have {fit.limit} descriptors"
        print(f"aiocmdpool: warning: {why}; raise that limit (ulimit -n), or lower -j", file=sys.stderr)
    return fit


def _open_inputs(options: RunOptions) -> Inputs:
    if options.inputs is not None:
        return GivenInputs(options.inputs)
    if options.input_file in (None, "-"):
        if os.isatty(STDIN) and not options.quiet:
            print("aiocmdpool: reading inputs from the terminal; end them with Ctrl-D", file=sys.stderr)
        return StreamInputs(STDIN, "standard input", options.separator)
    try:
        # Before the loop runs: opening a named pipe waits for its writer, and Ctrl-C still works.
        fd = os.open(options.input_file, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot read {options.input_file}: {error.strerror}") from None
    return StreamInputs(fd, options.input_file, options.separator)


def _open_log(options: RunOptions) -> tuple[FinishedJobs, int | None]:
    if options.job_log is None:
        return FinishedJobs(), None
    keep = options.resume is not Resume.NOTHING
    log_fd = None if options.dry_run else open_job_log(options.job_log, keep=keep)
    finished = read_job_log(options.job_log, log_fd) if keep else FinishedJobs()
    for warning in finished.warnings:
        print(f"aiocmdpool: warning: {warning}", file=sys.stderr)
    if log_fd is not None:
        begin_job_log(log_fd, options.job_log, keep=keep, ends_cut=finished.ends_cut)
    return finished, log_fd


def _open_trace(options: RunOptions) -> ChromeTrace | None:
    if options.trace is None or options.dry_run:
        return None
    try:
        _lock_trace(options.trace)
        return ChromeTrace(options.trace, name="aiocmdpool run")
    except OSError as error:
        hint = "; it must be a file, not a pipe" if error.errno in (errno.ESPIPE, errno.ENXIO) else ""
        raise PrepareError(f"cannot write the trace {options.trace}: {error.strerror}{hint}") from None


def _lock_trace(path: str) -> None:
    """Lock the trace against other runs, and refuse to empty a file that is no trace.

    The lock is held by a descriptor of its own, until this process ends.
    """
    if not holds(path, b"["):
        raise PrepareError(f"{path} exists and is no trace; remove it, or name another file")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    holder = lock(fd)
    if holder is not None:
        os.close(fd)
        raise PrepareError(f"the trace {path} is being written by {holder}; wait for its end, or name another file")
