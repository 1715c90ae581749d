"""A custom executor: run commands on another machine by ssh, or in a container by docker, through the same pool.

    python examples/remote_executor.py --ssh web1 --ssh admin@web2 --docker db --timeout 10 -- uname -a

`Remote` is an executor around an executor: it rewrites a command into the `ssh` or `docker` that runs it elsewhere.
What holds, and what does not:

- Arguments, working directory and variables arrive as they are, whatever is in them; the login shell of ssh has to be a
  POSIX one. Variables are on the command line there, for `ps` to see. "Inherited" is the environment of the other side.
- `timeout` holds on both sides: here it ends ssh or docker, and there `timeout` (coreutils) ends the program about when
  it would end here, even if the connection is lost.
- A command that is cancelled: with `tty=True` (`ssh -tt`) the other side hangs up, and the program gets SIGHUP. But
  then its streams are a terminal: stderr is in stdout, lines end with CR LF, and stdin is not for bytes. Without it,
  and always with docker, it goes on until its deadline, or until it writes to the closed connection.
- Exit status 255 of ssh, and 125 to 127 of docker, may be theirs as well as the program's; stderr tells.
- Limits, identity and the like would be applied to ssh itself, so they are refused.
"""

import argparse
import asyncio
import dataclasses
import shlex
import sys
from collections.abc import Callable

from aiocmdpool import (
    CommandConfig,
    CommandExecutor,
    CommandPool,
    CommandResult,
    ConfigError,
    ExecuteError,
    ExecutionConfig,
    create_backend,
)

Rewrite = Callable[[CommandConfig], CommandConfig]


class Remote:
    """Executes commands as `rewrite` makes them; results and errors tell of the command that was asked for."""

    def __init__(self, executor: CommandExecutor, rewrite: Rewrite) -> None:
        self._executor = executor
        self._rewrite = rewrite

    async def execute(self, command: CommandConfig) -> CommandResult:
        if command.needs_preparing or command.detach:
            message = (
                f"{command.display()}: limits, niceness, identity, umask, no_new_privs and detach are not for remote"
            )
            raise ConfigError(message, field="limits", command=command)
        try:
            result = await self._executor.execute(self._rewrite(command))
        except ExecuteError as error:
            error.command = command
            if error.result is not None:
                error.result = dataclasses.replace(error.result, command=command)
            raise
        return dataclasses.replace(result, command=command)


def by_ssh(host: str, *options: str, tty: bool = False) -> Rewrite:
    """Run commands on a host; `options` are more of ssh's, such as `-p2222`."""

    def rewrite(command: CommandConfig) -> CommandConfig:
        # ssh joins its arguments with blanks and gives them to a shell: so one argument, quoted once, for that shell.
        line = "exec " + shlex.join(_remote_argv(command))
        if command.cwd is not None:
            line = f"cd {shlex.quote(command.cwd)} && {line}"
        # Nobody is there to type a password. `-e none`: bytes that look like ssh's escapes are only bytes.
        fixed = ["-oBatchMode=yes", "-oConnectTimeout=10", "-e", "none", "-tt" if tty else "-T"]
        return _local(command, "ssh", [*fixed, *options, "--", host, line], host)

    return rewrite


def by_docker(container: str) -> Rewrite:
    """Run commands in a running container. There is no shell in between, and so nothing to quote."""

    def rewrite(command: CommandConfig) -> CommandConfig:
        directory = [] if command.cwd is None else ["--workdir", command.cwd]
        return _local(
            command, "docker", ["exec", "--interactive", *directory, container, *_remote_argv(command)], container
        )

    return rewrite


def _remote_argv(command: CommandConfig) -> list[str]:
    """The command with its environment and deadline as arguments of `env` and `timeout`, which do that over there."""
    argv = command.argv
    if "=" in command.program:  # `env` would take it for a variable; a shell does not
        argv = ["sh", "-c", 'exec "$0" "$@"', *argv]
    if command.timeout is not None:
        argv = ["timeout", f"--kill-after={command.grace:.3f}", f"{max(command.timeout, 0.001):.3f}", *argv]
    removed = [word for name, value in command.env.items() if value is None for word in ("-u", name)]
    variables = [f"{name}={value}" for name, value in command.env.items() if value is not None]
    if removed or variables or not command.inherit_env:
        argv = ["env", *([] if command.inherit_env else ["-i"]), *removed, *variables, *argv]
    return argv


def _local(command: CommandConfig, program: str, args: list[str], where: str) -> CommandConfig:
    """What runs here: without cwd and env, which are for there; ssh needs its own, to find its agent and keys."""
    label = f"{where}: {command.display()}"
    return command.with_options(program=program, args=args, cwd=None, env=None, inherit_env=True, label=label)


async def run_everywhere(places: list[tuple[str, Rewrite]], command: CommandConfig) -> int:
    """Run a command in all places at once, print what each says; returns in how many it failed."""
    config = ExecutionConfig(concurrency_limit=len(places))  # they wait for others, not for this machine

    async def in_one(backend: CommandExecutor, name: str, rewrite: Rewrite) -> bool:
        async with CommandPool(config, executor=Remote(backend, rewrite)) as pool:
            try:
                output = (await pool.execute(command)).stdout or b""
            except ExecuteError as error:
                print(error, file=sys.stderr)  # it names the place, too
                return False
        for line in output.decode(errors="replace").splitlines():
            print(f"{name}: {line}", flush=True)
        return True

    async with create_backend(config) as backend:
        done = await asyncio.gather(*(in_one(backend, name, rewrite) for name, rewrite in places))
    return done.count(False)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a command on other machines and in containers.")
    parser.add_argument("--ssh", action="append", default=[], metavar="HOST")
    parser.add_argument("--docker", action="append", default=[], metavar="CONTAINER")
    parser.add_argument("--tty", action="store_true", help="ssh hangs up on what is cancelled; see above")
    parser.add_argument("--cwd")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--timeout", type=float, metavar="SECONDS")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    places = [(host, by_ssh(host, tty=options.tty)) for host in options.ssh]
    places += [(container, by_docker(container)) for container in options.docker]
    if not places:
        parser.error("where? give --ssh or --docker")
    variables = dict(each.split("=", 1) for each in options.env)
    program, *args = options.command
    command = CommandConfig(program, args, cwd=options.cwd, env=variables, timeout=options.timeout, check=True)
    return 1 if asyncio.run(run_everywhere(places, command)) else 0


if __name__ == "__main__":
    sys.exit(main())
