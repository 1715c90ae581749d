"""The event loops that every async test runs on, and how pytest-asyncio is told of them."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:  # hosts.py uses the loops without pytest
    import pytest


class DebugLoop(asyncio.SelectorEventLoop):
    """The loop of asyncio in debug mode, which nobody can switch off again (`asyncio.Runner` would)."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_callback_duration = 60.0  # a busy machine is no failure

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(True)


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "asyncio-debug": DebugLoop,
    "uvloop": uvloop.new_event_loop,
}


def loops_of(item: "pytest.Item") -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops a test runs on: all of them, or those that its `one_loop` marker names (`asyncio` when none)."""
    marker = item.get_closest_marker("one_loop")
    if marker is None:
        return LOOPS
    return {name: LOOPS[name] for name in marker.args or ("asyncio",)}


class LoopPolicy(asyncio.DefaultEventLoopPolicy):
    """For versions of pytest-asyncio which know no loop factories (before 1.4)."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        super().__init__()
        self.new_event_loop = factory  # type: ignore[method-assign]  # one instance, one factory
        self.set_event_loop(None)  # as in `warm_up`


def policy_params(metafunc: "pytest.Metafunc") -> tuple[list[Any], list[str]]:
    """The parameters of an `event_loop_policy` fixture for the same loops."""
    loops = loops_of(metafunc.definition)
    return [LoopPolicy(factory) for factory in loops.values()], list(loops)


def warm_up() -> None:
    """Run each loop once: what a library makes for the whole process on its first use is no leak of a test.

    libuv keeps the pipe by which its signal handler wakes loops (`uv__signal_global_init`).
    """
    for factory in LOOPS.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))
    # Else `get_event_loop`, which some versions of pytest-asyncio call, makes one that stays.
    asyncio.set_event_loop(None)
