"""Shared by the tests of the facade: commands that wait for the test, and threads that tell how they ended."""

import threading
from concurrent.futures import Future

from contract.support import sh

PATIENCE = 20.0  # seconds after which something that should have happened is taken for broken


def waits_for(ready, release, **options):
    """A command that says its pid to one pipe and ends when it hears a line from the other."""
    return sh('echo $$ > "$1"; read line < "$2"; echo "$line"', ready.path, release.path, **options)


class Threads:
    """Threads with futures, and nothing of a pool's own ideas about the end of the interpreter."""

    def __init__(self):
        self._threads = []

    def start(self, function, *args, **kwargs):
        future = Future()

        def run():
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return future

    def join(self):
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def outcome_of(future):
    """What a thread gave, error or not."""
    return future.exception(PATIENCE) or future.result()
