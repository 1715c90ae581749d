"""Keys: functions of a command for policies that count by key; commands whose key is `None` pass.

Two common ones are here: the program, and the host of a URL.
"""

import os
from collections.abc import Callable, Hashable
from urllib.parse import urlsplit

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.validate import shown

Key = Callable[[CommandConfig], Hashable]


def by_program(command: CommandConfig) -> str:
    """Return the name of the program without its directory: `/usr/bin/ffmpeg` and `ffmpeg` have the same key."""
    return os.path.basename(command.program)


def by_host(command: CommandConfig) -> str | None:
    """Return the host of the first argument that is a URL, in lower case; `None` if no argument is one."""
    for argument in command.args:
        if "://" in argument:
            try:
                host = urlsplit(argument).hostname
            except ValueError:  # brackets without an IPv6 address, so no URL either
                continue
            if host:
                return host
    return None


def key_of(function: Key, command: CommandConfig) -> Hashable:
    """Return the key of a command by a function of the user, checked to be hashable."""
    key = function(command)
    try:
        hash(key)
    except TypeError:
        message = (
            f"key: gave {shown(key)} for {command.display()}, which is not hashable; give a str, a number or a tuple"
        )
        raise ConfigError(message, field="key", command=command) from None
    return key
