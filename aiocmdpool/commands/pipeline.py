"""`Pipeline`: commands joined by pipes, and `PipelineResult`: their results. Data only."""

import dataclasses
from typing import Any, cast

from aiocmdpool.commands import validate
from aiocmdpool.commands.command import CommandConfig, CommandOptions, Stdio
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.result import CommandResult, EndReason


@dataclasses.dataclass(frozen=True, slots=True)
class Pipeline:
    """Two commands or more, joined so that the stdout of each is the stdin of the next.

    Example:
        >>> pipeline = CommandConfig("zcat", ["log.gz"]) | CommandConfig("grep", ["-c", "error"])
        >>> pipeline.with_options(timeout=60, pipefail=True).display()
        'zcat log.gz | grep -c error'

    Raises:
        ConfigError: A stage redirects a stream that has to be a pipe, or an option is wrong.
    """

    stages: tuple[CommandConfig, ...]
    """Commands in order. The first reads its own stdin, the last writes to its own stdout, and each has a stderr of its
    own. Each may have a `timeout`; `Stdio.MERGED` sends stderr down the pipe.
    """
    _: dataclasses.KW_ONLY
    pipefail: bool = False
    """Whether the pipeline fails when any stage does; otherwise only the last stage counts, as in a shell. A stage that
    dies of SIGPIPE, because the next one has read enough, counts as failed.
    """
    timeout: float | None = None
    """Seconds that the whole pipeline may run, counted from the first start. `None`: no deadline."""
    check: bool = False
    """Whether to raise `NonZeroExit` if a stage that counts fails, whether its command has `check` or not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "timeout", validate.seconds("timeout", self.timeout))
        validate.instance_of(bool)("pipefail", self.pipefail)
        validate.instance_of(bool)("check", self.check)
        if len(self.stages) < 2:
            raise ConfigError(f"stages: {len(self.stages)} is too few; a pipeline has two or more", field="stages")
        for stage in self.stages:
            validate.instance_of(CommandConfig)("stages", stage)
        for stage in self.stages[1:]:
            _must_be(stage, "stdin", Stdio.NULL, "the output of the stage before")
        for stage in self.stages[:-1]:
            _must_be(stage, "stdout", Stdio.CAPTURE, "a pipe to the next stage")
            _must_be(stage, "idle_timeout", None, "of no use: only the output of the last stage is seen here")

    def __or__(self, other: "CommandConfig | Pipeline") -> "Pipeline":
        if isinstance(other, CommandConfig):
            return self.with_options(stages=(*self.stages, other))
        if isinstance(other, Pipeline):
            raise ConfigError(
                "a pipeline joined to a pipeline: whose options are to hold? Join commands", field="stages"
            )
        return NotImplemented

    def __ror__(self, other: CommandConfig) -> "Pipeline":
        return self.with_options(stages=(other, *self.stages))

    def with_options(self, **changes: Any) -> "Pipeline":
        """Return a copy with the fields in `changes` replaced."""
        validate.known_options("a pipeline", changes, [field.name for field in dataclasses.fields(self)])
        return dataclasses.replace(self, **changes)

    def with_defaults(self, options: CommandOptions) -> "Pipeline":
        """Return a copy whose stages have these options where they do not set them; see `CommandConfig.with_defaults`.

        Options that would replace a pipe between two stages are left out.
        """
        stages, last = [], len(self.stages) - 1
        for number, stage in enumerate(self.stages):
            piped = {"stdin"} if number > 0 else set()
            if number < last:
                piped |= {"stdout", "idle_timeout"}
            mine = {name: value for name, value in options.items() if name not in piped}
            stages.append(stage.with_defaults(cast("CommandOptions", mine)))
        return self.with_options(stages=tuple(stages))

    def display(self) -> str:
        """Return the pipeline as a command line for people."""
        return " | ".join(stage.display() for stage in self.stages)


def check_command(value: object) -> None:
    """Raise `ConfigError` unless `value` is a `CommandConfig`.

    Raises:
        ConfigError: It is something else; the message says what to use instead.
    """
    if not isinstance(value, CommandConfig):
        kind, instead = type(value).__name__, "use run(program, *args), or give a CommandConfig"
        if isinstance(value, str):
            instead += "; CommandConfig.shell(line) runs a line of shell"
        elif isinstance(value, Pipeline):
            instead = "use execute_pipeline"
        raise ConfigError(
            f"command: {validate.shown(value)} is a {kind}, not a CommandConfig; {instead}", field="command"
        )


def check_pipeline(value: object) -> None:
    """Raise `ConfigError` unless `value` is a `Pipeline`.

    Raises:
        ConfigError: It is something else; the message says what to use instead.
    """
    if not isinstance(value, Pipeline):
        instead = "join commands: CommandConfig(…) | CommandConfig(…)"
        if isinstance(value, CommandConfig):
            instead = "use execute for one command"
        elif isinstance(value, str):
            instead += "; or use execute, with CommandConfig.shell(line)"
        message = f"pipeline: {validate.shown(value)} is a {type(value).__name__}, not a Pipeline; {instead}"
        raise ConfigError(message, field="pipeline")


def _must_be(stage: CommandConfig, name: str, value: object, instead: str) -> None:
    if getattr(stage, name) != value:
        message = f"{name}: {getattr(stage, name)!r} makes no sense in {stage.display()}, where it is {instead}"
        raise ConfigError(message, field=name, command=stage)


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineResult:
    """The result of one finished run of a pipeline."""

    pipeline: Pipeline
    results: tuple[CommandResult, ...]
    """Results of the stages, in order; `stdout` is `None` for all but the last."""
    duration: float
    """Seconds from the first start to the last exit."""

    @property
    def stdout(self) -> bytes | None:
        """Return the captured stdout of the last stage."""
        return self.results[-1].stdout

    @property
    def stderr(self) -> tuple[bytes | None, ...]:
        """Return the captured stderr of each stage."""
        return tuple(result.stderr for result in self.results)

    @property
    def failures(self) -> tuple[CommandResult, ...]:
        """Return the results of the stages that count and failed, the last stage first."""
        counting = self.results if self.pipeline.pipefail else self.results[-1:]
        return tuple(result for result in reversed(counting) if result.returncode != 0)

    @property
    def returncode(self) -> int:
        """Return 0, or the exit status of the last stage that counts and failed."""
        return self.failures[0].returncode if self.failures else 0

    @property
    def ok(self) -> bool:
        """Return whether every stage that counts succeeded and every stage ended by itself."""
        return not self.failures and all(result.end_reason is EndReason.EXITED for result in self.results)

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self.results)

    def text(self, *, errors: str = "strict") -> str:
        """Return `stdout` decoded with the encoding of the last stage; see `CommandResult.text`."""
        return self.results[-1].text(errors=errors)
