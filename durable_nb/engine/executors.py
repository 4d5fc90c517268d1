"""Executors: regular tasks that run elsewhere, in other processes or on a cluster, while log and orchestration stay here.

An executor is given an errand and gives a flight; whatever the task says on its way comes back as words. What comes back at the
end is JSON text with its artifacts, or a failure, never a pickle. Invariants: an attempt that is left (cancelled and out of
its grace, over its time, its engine closed) is killed, if its executor can; the run's epoch fences what a lost one still says.

`Executor.start` may be called from any thread, and `hear` from any thread too; the rest lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from durable_nb.engine.cancelling import cancel
from durable_nb.errors import NonRetryableException
from durable_nb.log.records import Failure, holdable
from durable_nb.log.streams import Said
from durable_nb.tasks.artifacts import MARK, ArtifactText

if TYPE_CHECKING:
    from durable_nb.engine.context import Context
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.regular import RegularRun
    from durable_nb.log.records import Claim
    from durable_nb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One attempt of a regular task that is to be executed elsewhere.

    Attributes:
        input: the decoded input.
        siblings: what the task of a workflow knows of the others, or None.
    """

    claim: Claim
    task: Task[Any]
    input: object
    siblings: object


@dataclass(frozen=True)
class Word:
    """One thing that comes back while an attempt executes.

    Attributes:
        kind: ``"began"``, ``"said"`` (a line, chunk or progress of the context), ``"printed"``, ``"logged"``, ``"extend"``,
            ``"cancel"`` or ``"release"``.
        fields: JSON values, but for a chunk's bytes.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of an attempt.

    Attributes:
        text: the output as JSON text; None where it failed. artifacts: what the text refers to, by hash.
        is_final: whether no retry can mend the failure.
    """

    text: str | None = None
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    failure: Failure | None = None
    is_final: bool = False


class Flight(Protocol):
    """An attempt that is on its way.

    Attributes:
        done: gives the reply, after the last word; or raises how it was lost (WorkerLostError).
    """

    done: concurrent.futures.Future[Reply]

    def cancel(self) -> None:
        """Tell the function that its run is cancelled; waits for nothing."""

    def kill(self) -> None:
        """End it, or, where that cannot be, hear no more of it; nothing once it is done. Waits for nothing."""


class Executor(Protocol):
    """Where regular tasks run.

    Attributes:
        slots: how many attempts it is given at once.
    """

    slots: int

    def start(self, errand: Errand, hear: Callable[[Word], None]) -> Flight:
        """Begin an attempt. Blocking.

        Raises:
            ShippingError: something of the task cannot leave this process. WorkerLostError: nobody is there.
        """
        ...

    def close(self) -> None:
        """End what is under way and give back what is held; a later `start` makes it anew. Blocking."""


async def fly(running: RegularRun, value: object, context: Context) -> str:
    """Have an attempt executed by its task's executor; give its output as JSON text.

    Raises:
        TaskRunError: the function failed there; type, message and traceback are those of its own exception.
    """
    engine, task, scope = running.engine, running.task, contextvars.copy_context()

    def hear(word: Word) -> None:
        engine.post(lambda: _take(engine, running, word, scope))

    errand = Errand(claim=running.claim, task=task, input=value, siblings=context._siblings)
    executor = engine.executors[task.lane]
    starting = engine.threads.submit(lambda: executor.start(errand, hear))
    try:
        running.flight = flight = await asyncio.shield(asyncio.wrap_future(starting))
    except asyncio.CancelledError:
        starting.add_done_callback(_kill_late)
        raise
    try:
        reply = await asyncio.wrap_future(flight.done)
    finally:
        flight.kill()
    if reply.failure is not None:
        raise reply.failure.to_error() from (NonRetryableException() if reply.is_final else None)
    text = reply.text or "null"
    return ArtifactText(text, reply.artifacts) if text.startswith(MARK) else text


def _kill_late(starting: concurrent.futures.Future[Flight]) -> None:
    if starting.exception() is None:
        starting.result().kill()


def _take(engine: Engine, running: RegularRun, word: Word, scope: contextvars.Context) -> None:
    """Do here what the function asked for there."""
    claim, fields = running.claim, word.fields
    match word.kind:
        case "began":
            running.begin_time()
        case "said":
            engine.streams.say(Said(claim=claim, at=engine.clock.now(), **fields))
        case "printed":
            with contextlib.suppress(OSError, ValueError):  # nobody listens any more
                scope.run(print, holdable(fields["text"]), end="")
        case "logged":
            scope.run(_log, fields)
        case "extend":
            running.extend(fields["seconds"])
        case "cancel":
            engine.begin(cancel(engine, claim.number, reason="it cancelled itself"))
        case "release":
            running.release_slot()


def _log(fields: Mapping[str, Any]) -> None:
    """Log what the function logged there, by the logger of the same name here."""
    logger = logging.getLogger(fields["name"])
    if logger.isEnabledFor(fields["level"]):
        record = logger.makeRecord(
            fields["name"], fields["level"], fields["file"], fields["line"], fields["message"], (), None, fields["function"]
        )
        logger.handle(record)
