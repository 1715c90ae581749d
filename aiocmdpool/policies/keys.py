"""Keys: what a policy counts together. A key is a function of the command; `None` means that the policy lets it pass.

The two here are those that most need: the program, and the host of a URL.
"""

import os
from collections.abc import Callable, Hashable
from urllib.parse import urlsplit

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import ConfigError
from aiocmdpool.commands.validate import shown

Key = Callable[[CommandConfig], Hashable]


def by_program(command: CommandConfig) -> str:
    """The name of the program without its directory: `/usr/bin/ffmpeg` and `ffmpeg` count as one."""
    return os.path.basename(command.program)


def by_host(command: CommandConfig) -> str | None:
    """The host of the first argument that is a URL, in lower case; `None` if no argument is one."""
    for argument in command.args:
        if "://" in argument:
            try:
                host = urlsplit(argument).hostname
            except ValueError:  # brackets that hold no IPv6 address: no URL either
                continue
            if host:
                return host
    return None


def key_of(function: Key, command: CommandConfig) -> Hashable:
    """The key of a command, checked: it comes from somebody else's function."""
    key = function(command)
    try:
        hash(key)
    except TypeError:
        message = (
            f"key: gave {shown(key)} for {command.display()}, which is not hashable; give a str, a number or a tuple"
        )
        raise ConfigError(message, field="key", command=command) from None
    return key
