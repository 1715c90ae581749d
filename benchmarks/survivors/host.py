"""`python -m benchmarks.survivors.host PEER SCENARIO`: call a peer once, say how long that took, stay.

The mark comes on the standard input: in the arguments it would make this process one of those that are looked for.
"""

import asyncio
import importlib
import inspect
import json
import sys
import time

from benchmarks.survivors.peers import PEERS, Peer
from benchmarks.survivors.scenarios import SCENARIOS

STAY = 30.0  # seconds; the parent kills this process long before


def main() -> None:
    """Read what to do, and do it."""
    peer, scenario = PEERS[sys.argv[1]], SCENARIOS[sys.argv[2]]
    script = scenario.script.format(mark=sys.stdin.readline().strip())
    if peer.loop:
        _on_loop(peer, script, scenario.timeout)
    else:
        _blocking(peer, script, scenario.timeout)


def _blocking(peer: Peer, script: str, timeout: float) -> None:
    began = time.monotonic()
    outcome = "returned"
    try:
        peer.way(script, timeout)
    except Exception as error:
        outcome = type(error).__name__
    _say(began, outcome)
    time.sleep(STAY)


def _on_loop(peer: Peer, script: str, timeout: float) -> None:
    sleep = importlib.import_module("trio" if peer.loop == "trio" else "asyncio").sleep

    async def call() -> None:
        began = time.monotonic()
        outcome = "returned"
        try:
            pending = peer.way(script, timeout)
            assert inspect.isawaitable(pending)
            await pending
        except Exception as error:
            outcome = type(error).__name__
        _say(began, outcome)
        await sleep(STAY)  # on a living loop: what is left is left although everything could go on

    match peer.loop:
        case "trio":
            importlib.import_module("trio").run(call)
        case "uvloop":
            with asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
                runner.run(call())
        case _:
            asyncio.run(call())


def _say(began: float, outcome: str) -> None:
    print(json.dumps({"seconds": time.monotonic() - began, "outcome": outcome}), flush=True)


if __name__ == "__main__":
    main()
