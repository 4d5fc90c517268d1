"""What a call means where it is made: in a durable task a checkpoint, in a regular task a child, elsewhere a new run."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from durable_nb.engine.asks import ask_of
from durable_nb.engine.children import error_of, result_in_task, run_children
from durable_nb.engine.current import CURRENT
from durable_nb.engine.execution import Execution
from durable_nb.engine.new_runs import new_run
from durable_nb.engine.regular import RegularRun
from durable_nb.errors import DurableError, InputValidationError
from durable_nb.log import waits
from durable_nb.log.ids import new_id
from durable_nb.log.records import Ask, EventReport, NewEvent
from durable_nb.tasks.events import PushedEvent
from durable_nb.tasks.payload import ANY, check_text, decode, encode, encode_given
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import BulkItem, Task


async def start(engine: Engine, task: Task[Any], items: Sequence[BulkItem], *, wait: bool) -> list[Any]:
    """Start runs of a task; give refs, or an output or error each where `wait`, in the order asked."""
    current = CURRENT.get()
    if isinstance(current, Execution):
        return await run_children(current, task, items, wait=wait)
    parent = current.claim if current else None
    new_runs = [new_run(engine, task, item, parent=parent, index=index)[0] for index, item in enumerate(items)]
    started = await engine.start_runs(task, new_runs, parent_id=parent.id if parent else None)
    refs = [RunRef[Any](engine.host, run_id, number, task.name) for number, run_id in started]
    if not wait:
        return refs
    async with current.slot_lent() if current else contextlib.nullcontext():
        return await asyncio.gather(*[_outcome(engine, ref, task, current) for ref in refs])


async def result(engine: Engine, ref: RunRef[Any]) -> Any:
    """Wait for the end of a run; give its output, or raise how it failed."""
    task = engine.registry.get(ref.task_name)
    current = CURRENT.get()
    if isinstance(current, Execution):
        return await result_in_task(current, ref, task)
    async with current.slot_lent() if current else contextlib.nullcontext():
        value = await _outcome(engine, ref, task, current)
    if isinstance(value, DurableError):
        raise value
    return value


async def push(engine: Engine, events: Sequence[PushedEvent]) -> list[EventReport]:
    """Push events in one transaction; inside a durable task once, as a checkpoint."""
    news = [new_event(event) for event in events]
    current = CURRENT.get()
    if not isinstance(current, Execution):
        return await engine.push(news) if news else []

    async def give_ids() -> str:
        return encode([event.id for event in news], of="the ids of events")

    def accept(connection: sqlite3.Connection) -> None:
        for event in news:
            waits.accept(connection, event, at=engine.clock.now())

    words = f"push {news[0].key}" if len(news) == 1 else f"push {len(news)} events"
    parts = [[event.key, event.payload, event.scope] for event in news]
    ask = ask_of("push", words, *(parts[0] if len(parts) == 1 else parts), line=current.line())
    _, outcome = await current.inline(ask, give_ids, write=accept)
    for key in dict.fromkeys(event.key for event in news):
        engine.match_soon(key)
    ids = decode(outcome.value or "null")
    return [EventReport(event_id=event_id, key=event.key) for event_id, event in zip(ids, news, strict=True)]


def new_event(event: PushedEvent) -> NewEvent:
    """Make the record of an event.

    Raises:
        InputValidationError: JSON cannot hold it, or the log cannot hold its key, scope or priority; nothing was written.
    """
    check_text(event.key, of="an event's key")
    if event.scope is not None:
        check_text(event.scope, of=f"the scope of event '{event.key}'")
    if event.priority not in (None, 1, 2, 3):
        raise InputValidationError(f"priority={event.priority!r} is unknown: give 1 (low), 2 or 3 (high).")
    return NewEvent(
        id=new_id(),
        key=event.key,
        payload=encode_given(event.payload, of=f"the payload of event '{event.key}'"),
        scope=event.scope,
        metadata=encode_given(dict(event.additional_metadata), of="the metadata"),
        priority=event.priority,
    )


async def recorded(
    engine: Engine, ask: Callable[[int | None], Ask], value: object, write: Callable[[sqlite3.Connection], object]
) -> Any:
    """Write something that a caller changes in the log; inside a durable task once, as a checkpoint. Give the value it has then.

    Args:
        ask: is given the line of the task's source.
    """
    current = CURRENT.get()
    if not isinstance(current, Execution):
        await engine.writer.submit(write)
        return value

    async def give() -> str:
        return encode(value, of="what is recorded")

    def work(connection: sqlite3.Connection) -> None:
        write(connection)

    _, outcome = await current.inline(ask(current.line()), give, write=work)
    return decode(outcome.value or "null")


async def _outcome(engine: Engine, ref: RunRef[Any], task: Task[Any] | None, current: RegularRun | None) -> Any:
    _, outcome = await engine.result(ref.number)
    if outcome.failure is not None:
        return error_of(outcome.failure)
    adapter = ANY if task is None else (task.cell_adapter if current is None else None) or task.output_adapter
    return decode(outcome.value or "null", adapter)
