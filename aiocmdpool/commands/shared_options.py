"""Options shared by many commands, checked once; see `ExecutionConfig.defaults`."""

from collections.abc import Mapping
from typing import cast

from aiocmdpool.commands.command import CommandConfig, CommandOptions
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.frozen_mapping import FrozenMapping
from aiocmdpool.commands.options import shown_option


def checked_options(field: str, options: object) -> CommandOptions:
    """Return `options` checked and converted as a `CommandConfig` would keep them.

    Raises:
        ConfigError: An option is wrong, or is not one that commands can share.
    """
    if not isinstance(options, Mapping):
        message = f"{field}: {type(options).__name__} is not a mapping of options of CommandConfig"
        raise ConfigError(message, field=field)
    if isinstance(options, _SharedOptions):
        return cast("CommandOptions", options)
    for name in ("program", "args"):
        if name in options:
            raise ConfigError(f"{field}: {name!r} is what each command has of its own", field=field)
    try:
        template = CommandConfig("true", **cast("CommandOptions", options))
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}", field=f"{field}.{error.field}") from None
    return cast("CommandOptions", _SharedOptions({name: getattr(template, name) for name in options}))


class _SharedOptions(FrozenMapping):
    """Options that have been checked; their `repr` shows no secrets."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {shown_option(name, value)}' for name, value in self.items())}}}"


NO_OPTIONS = checked_options("defaults", {})
