"""The environment of this process, and the environments of the programs that it starts."""

import os
from collections.abc import Mapping

from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.standalone.kernel.processes import COOKIE


def current_environment() -> Mapping[bytes, bytes]:
    """Return the environment of this process as bytes; the caller must not change it.

    A variable without a name (`=x`), which this process may have been given, can be handed to no program.
    """
    # `os.environ` keeps a dict of bytes; comparing or copying that costs a microsecond, converting it twenty.
    data = getattr(os.environ, "_data", None)
    environment = data if isinstance(data, dict) else dict(os.environb)
    if b"" in environment:
        environment = {name: value for name, value in environment.items() if name}
    return environment


def environment_of(command: CommandConfig, mark: bytes) -> dict[bytes, bytes]:
    """Return the environment of a program, with `mark` after the marks of outer runs: this process may be one."""
    current = current_environment()
    environment = dict(current) if command.inherit_env else {}
    for name, value in command.env.items():
        if value is None:
            environment.pop(os.fsencode(name), None)
        else:
            environment[os.fsencode(name)] = os.fsencode(value)
    outer = current.get(COOKIE)
    environment[COOKIE] = outer + b"," + mark if outer else mark
    return environment
