"""`Answers`: what a worker answers to a request, from the frame to the result."""

import asyncio
import errno
import os
from collections.abc import Callable

from aiocmdpool.backends.workers.fitness import SHORTAGES, STARTS_IN_A_ROW, SYMPTOMS
from aiocmdpool.backends.workers.guardian import Guardian
from aiocmdpool.backends.workers.ledger import Page
from aiocmdpool.backends.workers.pending import Answer, OnlyHere, WorkerUnfit
from aiocmdpool.backends.workers.process import WorkerProgram
from aiocmdpool.backends.workers.reply import (
    failure_of,
    is_read_at_once,
    large_output,
    read_handed_over,
    result_of,
    timed_out_in_silence,
)
from aiocmdpool.commands.command import CommandConfig
from aiocmdpool.commands.errors import IoError, TaskCancelled, WorkerLost
from aiocmdpool.commands.result import CommandResult
from aiocmdpool.loops.waiting import wait_through
from aiocmdpool.standalone.wire import frames, messages
from aiocmdpool.system.leftovers_log import warn_of_leftovers
from aiocmdpool.system.start_failure import shortage

TIMEOUTS = frozenset((messages.TIMEOUT, messages.IDLE_TIMEOUT))


class Answers:
    """Reads the answers of one worker, and notices when it cannot start programs for a reason of its own.

    Args:
        program: The worker.
        guardian: Notified of processes that may stay.
        unfit: Returns a text about a resource that the worker has lost; empty if there is none.
        retire: Called with a reason, or an empty one: has the worker replaced, and returns whether it is.
    """

    def __init__(
        self, program: WorkerProgram, guardian: Guardian, unfit: Callable[[], str], retire: Callable[[str], bool]
    ) -> None:
        self._program = program
        self._guardian = guardian
        self._unfit = unfit
        self._retire = retire
        self._failed_starts = 0  # starts in a row that failed for lack of a resource

    def read(self, kind: int, number: int, payload: bytes, command: CommandConfig) -> Answer:
        """Return the content of an EXIT or FAILED frame, with the descriptors that belong to it."""
        if kind == frames.FAILED:
            return self._failure(command, payload)
        self._failed_starts = 0
        answer = messages.unpack_exit(payload)
        if answer.flags & messages.LEFT_ALONE:
            for pid, _ in answer.leaked:
                started = self._program.handles.leave_alone(pid)
                if started is not None:
                    self._guardian.left(pid, started)
            answer.leaked = []
        handed_over = messages.handed_over(payload)
        if not handed_over:
            return answer, []
        size = large_output(answer)
        try:
            return answer, self._program.connection.receive_descriptors(number, handed_over)
        except OSError as error:
            self._program.page.give_back(size)
            return _not_received(command, error)

    def _failure(self, command: CommandConfig, payload: bytes) -> Exception:
        """Return the error in a FAILED frame, with a type of its own if the worker itself is the cause."""
        number, stage = messages.unpack_failed(payload)
        if stage.endswith(messages.OF_HOST):
            return OnlyHere(stage.removesuffix(messages.OF_HOST))
        error = failure_of(command, payload)
        may_be_unfit = number in SYMPTOMS and stage != "output" and ":" not in stage  # the others mean that it has run
        if may_be_unfit and self._retire(self._unfit_because(number, command)):
            return WorkerUnfit(error)
        return error

    def _unfit_because(self, number: int, command: CommandConfig) -> str:
        """Check the worker's resources after a failed start that may be its own fault, and count such starts.

        Returns:
            A text about what it lacks; empty if that is nothing.
        """
        why = self._unfit()
        if not why and number in SHORTAGES and not command.needs_preparing:
            self._failed_starts += 1
            if self._failed_starts >= STARTS_IN_A_ROW:
                self._failed_starts = 0
                why = f"{STARTS_IN_A_ROW} starts in a row failed there: {os.strerror(number)}"
        return why


def _not_received(command: CommandConfig, error: OSError) -> IoError:
    message = f"{command.display()}: it has run, but its large output could not be received: "
    message += shortage(error.errno) or os.strerror(error.errno or 0)
    return IoError(message, errno=error.errno, command=command)


async def result_in(command: CommandConfig, answer: Answer | None, page: Page) -> CommandResult:
    """Return the result of `command` in its answer, with large output read, or raise the error that it is."""
    assert answer is not None
    if isinstance(answer, Exception):
        raise answer
    reply, descriptors = answer
    cancelled: asyncio.CancelledError | None = None
    if descriptors:
        size = large_output(reply)
        try:
            if is_read_at_once(reply, descriptors):
                await read_handed_over(reply, descriptors)  # no wait in there, so no cancellation
            else:
                reading = asyncio.ensure_future(read_handed_over(reply, descriptors))
                cancelled = await wait_through(reading)
                reading.result()
        except OSError as error:  # of a read, or because it takes a thread, and what starts one could not be imported
            raise _not_received(command, error) from None
        except RuntimeError:  # "can't start new thread"
            raise _not_received(command, OSError(errno.EAGAIN, "")) from None
        except EOFError as end:
            message = f"{command.display()}: it has run, but its worker was lost: {end}"
            raise WorkerLost(message, command=command) from None
        except MemoryError:
            message = (
                f"{command.display()}: it has run, but this process has no memory left for its {size} bytes of output; "
                "send the output to a file, or lower max_output_total"
            )
            raise IoError(message, errno=errno.ENOMEM, command=command) from None
        finally:
            page.give_back(size)  # the caller holds the output from here on
    result = result_of(command, reply)
    if result.leaked:
        warn_of_leftovers(result)
    if cancelled is not None:
        raise cancelled from TaskCancelled(f"{command.display()}: cancelled", result=result)
    if reply.reason in TIMEOUTS and (late := timed_out_in_silence(command, reply, result)):
        raise late
    return result
