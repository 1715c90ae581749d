"""What `aiocmdpool run` was asked for, as frozen data."""

import dataclasses

from aiocmdpool.cli.arguments.halt import NEVER, HaltPolicy
from aiocmdpool.cli.resume import Resume
from aiocmdpool.commands.command import DEFAULT_GRACE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `aiocmdpool run` was asked for. Units are seconds and bytes."""

    template: tuple[str, ...]
    replace: str | None = None
    """The placeholder, instead of `{}` and its kin."""
    inputs: tuple[str, ...] | None = None
    """Those after `:::`; `None`: they are read from `input_file`."""
    input_file: str | None = None
    """`None`: standard input."""
    separator: bytes = b"\n"
    """The byte after each input."""
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
    """Bytes of each stream of a command; `None`: any number."""
    niceness: int = 0
    progress: bool | None = None
    """`None`: where standard error is a terminal."""
    quiet: bool = False
