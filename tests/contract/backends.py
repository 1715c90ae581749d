"""Every backend that must keep the contract. A new one is one line here."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiocmdpool.backends.process import ProcessBackend
from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.thread import ThreadBackend
from aiocmdpool.executor import CommandExecutor

BACKENDS: dict[str, Callable[[], AbstractAsyncContextManager[CommandExecutor]]] = {
    "process": lambda: ProcessBackend(),
    "thread": lambda: ThreadBackend(),
    "process_pool": lambda: ProcessPoolBackend(1),  # starting a second one for each test takes a fifth of the time
}
