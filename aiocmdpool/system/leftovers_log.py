"""Logs which processes commands have left running and were killed for it."""

from aiocmdpool.commands.result import CommandResult
from aiocmdpool.system.safe_log import SafeLog

_log = SafeLog("aiocmdpool.leftovers")
NAMED = 5  # processes named in one line


def warn_of_leftovers(result: CommandResult) -> None:
    """Log a warning with the processes that a command left running when it exited by itself; none if there are none."""
    if not result.leaked:
        return
    names = ", ".join(f"{ascii(process.name)[1:-1]} ({process.pid})" for process in result.leaked[:NAMED])
    more = f" and {len(result.leaked) - NAMED} more" if len(result.leaked) > NAMED else ""
    facts = {"command": result.command.display(), "leaked": [process.pid for process in result.leaked]}
    _log.warning(
        "%s left %s%s running, which has been ended; what is to stay needs detach=True, what needs longer to clean up "
        "leftover_grace",
        result.command.display(),
        names,
        more,
        extra=facts,
    )
