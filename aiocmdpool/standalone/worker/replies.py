"""`Replies`: what is sent back for a request: the outcome of its run with its output, or why there is none."""

import os
import resource

from ..loop.poller import Poller
from ..wire import frames, messages
from ..wire.messages import Exit
from .channel import Channel

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from .pour import Pour
    from .run import Run

MAXRSS_UNIT = 1024 if os.uname().sysname == "Linux" else 1  # getrusage(2) counts kilobytes on Linux, bytes on macOS
LARGE_OUTPUT_PROGRAMS = 1000  # most program names remembered


class Replies:
    """Sends the EXIT and FAILED frames of one worker.

    Args:
        channel: The connection to the parent.
        poller: Watches the pipes of large output that is in no file.
    """

    def __init__(self, channel: Channel, poller: Poller) -> None:
        self._channel = channel
        self._poller = poller
        self._floor = own_peak()
        self.pours: set[Pour] = set()
        """Large output on its way to the parent."""
        self.large_output_programs: set[bytes] = set()
        """Programs with large output at their last run."""

    def answer(self, run: "Run") -> None:
        """Send the EXIT or FAILED frame of a run."""
        run.close()
        failure = run.failure
        outcome = outcome_of(run, self._floor) if failure is None else None
        has_large_output = outcome is not None and outcome.flags & messages.HANDED_OVER != 0
        self._note_large_output(run.request.argv[0], has_large_output)
        if has_large_output:
            poured = [output.pour(self._poller, self.pours.discard) for output in run.outputs]
            self.pours.update(pour for pour in poured if pour is not None)
        error = _output_error(run)
        if outcome is None or error:
            for output in run.outputs:
                output.drop()
            self.refuse(run.number, *(failure or (error, "output")))
            return
        frame = frames.encode(frames.EXIT, run.number, messages.pack_exit(outcome))
        if has_large_output:
            spools = [output.spool for output in run.outputs if output.spool >= 0]  # in the order stdout, stderr
            self._channel.send_with_descriptors(run.number, spools, frame)
        else:
            self._channel.send(frame)

    def _note_large_output(self, program: bytes, has_large_output: bool) -> None:
        if not has_large_output:
            self.large_output_programs.discard(program)
        elif len(self.large_output_programs) < LARGE_OUTPUT_PROGRAMS:
            self.large_output_programs.add(program)

    def refuse(self, number: int, error: int, stage: str) -> None:
        """Send the FAILED frame of a request: an errno, and the stage that failed."""
        self._channel.send(frames.encode(frames.FAILED, number, messages.pack_failed(error, stage)))


def outcome_of(run: "Run", floor: int) -> Exit:
    """Return the result of the run for the reply; the spools of its outputs, if any, go with it.

    Args:
        run: The run, which is over.
        floor: Peak memory of this worker as getrusage(2) counts it. A child starts with that figure and keeps it
            across `exec` (bun#43305), so only a larger one is the program's own.
    """
    detaches = run.detaches
    usage, flags = run.usage, messages.HELD.get(run.held, 0) | messages.LEFT_ALONE * detaches
    leaked: list[tuple[int, bytes]] = []
    if detaches:
        leaked = [(pid, b"") for pid in run.left_alone]  # a detached command may leave these running
    elif run.leaked and run.reason == messages.EXITED:
        leaked = list(run.leaked.items())
    out = run.stdout.result() if run.stdout is not None else b""
    err = run.stderr.result() if run.stderr is not None else b""
    if run.stdout is not None:
        flags |= messages.STDOUT_TRUNCATED * run.stdout.truncated
        flags |= messages.STDOUT_HANDED_OVER * run.stdout.is_large
    if run.stderr is not None:
        flags |= messages.STDERR_TRUNCATED * run.stderr.truncated
        flags |= messages.STDERR_HANDED_OVER * run.stderr.is_large
    return Exit(
        run.reason,
        flags,
        run.tier,
        os.waitstatus_to_exitcode(run.status),
        run.program_pid,
        run.ending.exited_at - run.started_at,
        usage.ru_utime,
        usage.ru_stime,
        usage.ru_maxrss * MAXRSS_UNIT if usage.ru_maxrss > floor else 0,
        out,
        err,
        leaked,
        run.started_at,
    )


def _output_error(run: "Run") -> int:
    """Return the errno with which output could not be kept, or 0."""
    return next((output.error for output in run.outputs if output.error), 0)


def own_peak() -> int:
    """Return the peak memory of this process, in the unit of getrusage(2)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
