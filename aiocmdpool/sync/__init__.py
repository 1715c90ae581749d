"""A blocking facade, with the same names as `aiocmdpool`, for code without a loop: Flask, Django, Celery, scripts.

    run, execute                  one command
    CommandPool ─ TaskHandle      many
    CommandPoolSeg                the same, pushed to without a hop to the loop
    ProcessPool                   workers alone
         └─ binding ─ calls ─ process_wide ─ background      one thread with a loop, started on first use, shared by all

Any number of threads may use it at once. An exception that interrupts a blocked call (Ctrl-C, a signal handler that
raises) is raised when the command it waited for is dead and reaped.
"""

from aiocmdpool.commands.public import publish as _publish
from aiocmdpool.sync.command_pool import CommandPool
from aiocmdpool.sync.process_pool import ProcessPool
from aiocmdpool.sync.process_wide import shutdown
from aiocmdpool.sync.seg_pool import CommandPoolSeg
from aiocmdpool.sync.shortcuts import execute, run
from aiocmdpool.tasks.thread_handle import ThreadTaskHandle as TaskHandle

__all__ = ["CommandPool", "CommandPoolSeg", "ProcessPool", "TaskHandle", "execute", "run", "shutdown"]

_publish(__all__, globals())
