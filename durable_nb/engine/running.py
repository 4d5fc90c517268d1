"""What a call means where it is made: in a durable task a checkpoint, in a regular task a child, elsewhere a new run."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from durable_nb.engine.asks import ask_of
from durable_nb.engine.children import error_of, result_in_task, run_children
from durable_nb.engine.current import CURRENT
from durable_nb.engine.execution import Execution
from durable_nb.engine.regular import RegularRun
from durable_nb.errors import DurableError
from durable_nb.log import waits
from durable_nb.log.ids import new_id
from durable_nb.log.records import EventReport
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
    new_runs = [engine.new_run(task, item, parent=parent, index=index)[0] for index, item in enumerate(items)]
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


async def push(engine: Engine, key: str, payload: object, *, scope: str | None, metadata: dict[str, object]) -> EventReport:
    """Push an event; inside a durable task once, as a checkpoint."""
    check_text(key, of="an event's key")
    if scope is not None:
        check_text(scope, of=f"the scope of event '{key}'")
    current = CURRENT.get()
    if not isinstance(current, Execution):
        return await engine.push(key, payload, scope=scope, metadata=metadata)
    text, metadata_text, event_id = (
        encode_given(payload, of=f"the payload of event '{key}'"),
        encode_given(metadata, of="the metadata"),
        new_id(),
    )

    async def give_id() -> str:
        return encode(event_id, of="an event's id")

    def accept(connection: sqlite3.Connection) -> None:
        waits.accept(
            connection, event_id=event_id, key=key, scope=scope, payload=text, metadata=metadata_text, at=engine.clock.now()
        )

    ask = ask_of("push", f"push {key}", key, text, scope, line=current.line())
    _, outcome = await current.inline(ask, give_id, write=accept)
    engine.match_soon(key)
    return EventReport(event_id=decode(outcome.value or "null"), key=key)


async def _outcome(engine: Engine, ref: RunRef[Any], task: Task[Any] | None, current: RegularRun | None) -> Any:
    _, outcome = await engine.result(ref.number)
    if outcome.failure is not None:
        return error_of(outcome.failure)
    adapter = ANY if task is None else (task.cell_adapter if current is None else None) or task.output_adapter
    return decode(outcome.value or "null", adapter)
