"""Runs that events start: `on_events`, with filters.

Who matches an event with the waits starts its runs too, in the transaction that marks it matched: also of tasks that only another
process serves, or none that lives. Those runs are queued until somebody serves their task.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from durable_nb.engine.cel import compile_filter
from durable_nb.engine.declared import Declared
from durable_nb.engine.new_runs import new_run
from durable_nb.engine.reservation import Reservation
from durable_nb.errors import (
    DurableError,
    ExpressionError,
    ExpressionEvaluationError,
    IdempotencyCollisionError,
    RateLimitError,
)
from durable_nb.log import triggers
from durable_nb.log.records import AcceptedEvent, EventReport, NewRun
from durable_nb.tasks.flow import DefaultFilter
from durable_nb.tasks.payload import encode_given
from durable_nb.tasks.schemas import misfit
from durable_nb.tasks.task import BulkItem, Task

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a listening task's filters say of an event: it starts a run, it does not (without a reason), or one failed."""

    is_start: bool
    filter_payload: str | None = None
    reason: str | None = None


class Starts:
    """The runs that one event starts. `write` runs inside the transaction, the rest on the engine's loop."""

    def __init__(self, engine: Engine, event: AcceptedEvent) -> None:
        self._engine = engine
        self._event = event
        self._runs: list[tuple[NewRun, Reservation]] = []
        self._misses: list[tuple[str, str]] = []
        self._written: list[str] = []
        self._refused: list[tuple[str, str]] = []

    def add(self, run: NewRun) -> None:
        """Have a run started."""
        self._runs.append((run, Reservation(self._engine.dispatcher, None, 0)))

    def miss(self, task: str, reason: str) -> None:
        """Have it taken down that a task is not started."""
        self._misses.append((task, reason))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the runs."""
        self._written, self._refused = [], []
        for run, reservation in self._runs:
            reservation.clear()
            try:
                self._written.append(self._engine.write_run(connection, run, reservation, parent_id=None)[1])
            except (IdempotencyCollisionError, RateLimitError) as error:
                self._refused.append((run.task, str(error)))
        for task, reason in [*self._misses, *self._refused]:
            triggers.miss(connection, self._event.id, task, reason)

    def tell(self, report: EventReport) -> None:
        """Say what came of it, after the commit."""
        report.started_runs += self._written
        report.near_misses += [f"{task}: {reason}" for task, reason in [*self._misses, *self._refused]]
        for _, reservation in self._runs:
            reservation.settle(True)


class Triggers:
    """Prepares what an event starts. Lives on the engine's loop; filters run on a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def prepare(
        self, event: AcceptedEvent, listeners: Sequence[triggers.Listener], payload: Any, metadata: dict[str, Any]
    ) -> Starts:
        """Give the runs that an event starts. Nothing is written."""
        engine, starts = self._engine, Starts(self._engine, event)
        for listener in listeners:
            try:
                task = self._task_of(listener)
                verdict = await self._judge(task, event, payload, metadata)
                if verdict.reason is not None:
                    starts.miss(task.name, verdict.reason)
                elif verdict.is_start:
                    item = BulkItem(input=payload, priority=event.priority)
                    run, _ = new_run(
                        engine, task, item, parent=None, index=None, event=event, filter_payload=verdict.filter_payload
                    )
                    starts.add(replace(run, home=task.home) if isinstance(task, Declared) else run)
            except DurableError as error:  # the payload does not fit, or a key of the run cannot be told
                starts.miss(listener.task, str(error))
        return starts

    def _task_of(self, listener: triggers.Listener) -> Task[Any] | Declared:
        """Give the task that listens: as it is defined here, unless it is another one that has its name here."""
        engine, declared = self._engine, Declared.from_json(listener.task, listener.declaration)
        here = engine.registry.get(listener.task)
        if here is None or (declared.home != engine.home and here.version not in (None, declared.version)):
            return declared
        return here

    async def _judge(self, task: Task[Any] | Declared, event: AcceptedEvent, payload: Any, metadata: dict[str, Any]) -> Verdict:
        schema = task.schema if isinstance(task, Declared) else None
        if not task.options.default_filters and schema is None:
            return Verdict(True)

        def work() -> Verdict:
            verdict = judge(task.options.default_filters, event, payload, metadata)
            reason = misfit(payload, schema) if schema is not None and verdict.is_start else None
            return verdict if reason is None else Verdict(False, reason=f"The payload does not fit the task's input: {reason}")

        return await asyncio.wrap_future(self._engine.threads.submit(work))


def judge(filters: Sequence[DefaultFilter], event: AcceptedEvent, payload: Any, metadata: dict[str, Any]) -> Verdict:
    """Give the first filter's word that agrees; without filters every event starts a run."""
    reasons = []
    for item in filters:
        if item.scope is not None and item.scope != event.scope:
            continue
        try:
            if compile_filter(item.expression).matches(
                input=payload, additional_metadata=metadata, event_key=event.key, scope=event.scope, payload=item.payload
            ):
                return Verdict(True, encode_given(dict(item.payload), of="a filter's payload"))
        except (ExpressionError, ExpressionEvaluationError) as error:
            reasons.append(str(error))
    return Verdict(not filters, reason=" ".join(reasons) or None)
