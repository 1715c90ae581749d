"""`RunOptions`: the options of `aiocmdpool run`, as frozen data."""

import dataclasses

from aiocmdpool.cli.arguments.halt import NEVER, HaltPolicy
from aiocmdpool.cli.resume import Resume
from aiocmdpool.commands.command import DEFAULT_GRACE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `aiocmdpool run`. Units are seconds and bytes."""

    template: tuple[str, ...]
    replace: str | None = None
    """The placeholder to use instead of `{}` and its variants; `None` for those."""
    inputs: tuple[str, ...] | None = None
    """Inputs given after `:::`; `None` to read them from `input_file`."""
    input_file: str | None = None
    """Path of the file with the inputs; `None` for standard input."""
    separator: bytes = b"\n"
    """Byte that ends each input."""
    shell: bool = False
    jobs: int = 1
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    retries: int = 0
    halt: HaltPolicy = NEVER
    detach: bool = False
    keep_order: bool = False
    line_buffer: bool = False
    tag: bool = False
    job_log: str | None = None
    resume: Resume = Resume.NOTHING
    trace: str | None = None
    dry_run: bool = False
    max_output: int | None = None
    """Most bytes of each stream of a command; `None` for no limit."""
    niceness: int = 0
    progress: bool | None = None
    """Whether to show a progress bar; `None` to show it if standard error is a terminal."""
    quiet: bool = False
