"""New runs: what is written of one, made of a task and what a caller passes. Nothing here writes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable_nb.engine.flow import Keys, idempotency_of, needs_of
from durable_nb.errors import InputValidationError
from durable_nb.log.ids import new_id
from durable_nb.log.records import AcceptedEvent, Claim, NewRun
from durable_nb.tasks.options import deadline_of
from durable_nb.tasks.payload import check_text, decode, encode_given, encode_input

if TYPE_CHECKING:
    from durable_nb.engine.declared import Declared
    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import BulkItem, Task


def new_run(
    engine: Engine,
    task: Task[Any] | Declared,
    item: BulkItem,
    *,
    parent: Claim | None,
    index: int | None,
    key: str | None = None,
    event: AcceptedEvent | None = None,
    filter_payload: str | None = None,
) -> tuple[NewRun, str]:
    """Make the record of a new run; give it with its input as passed. Nothing is written.

    Raises:
        InputValidationError: the input does not fit, or a key or the priority cannot be.
    """
    for text, of in ((item.child_key, "the child key"), (key, "the key"), (item.idempotency_key, "the idempotency key")):
        if text is not None:
            check_text(text, of=of)
    if item.priority not in (None, 1, 2, 3):
        raise InputValidationError(f"priority={item.priority!r} is unknown: give 1 (low), 2 or 3 (high).")
    task.check_runnable()
    whole, passed = encode_input(item.input, task.input_adapter, of=f"the input of task '{task.name}'")
    run = run_of(engine, task, item, whole, parent=parent, index=index, key=key, event=event, filter_payload=filter_payload)
    return run, passed


def run_of(
    engine: Engine,
    task: Task[Any] | Declared,
    item: BulkItem,
    whole: str,
    *,
    parent: Claim | None,
    index: int | None,
    key: str | None = None,
    event: AcceptedEvent | None = None,
    filter_payload: str | None = None,
) -> NewRun:
    """Make the record of a new run whose input is JSON text already. May be called from any thread."""
    inherited = decode(parent.metadata) if parent else decode(event.metadata) if event else {}
    metadata = encode_given(
        {**inherited, **task.options.default_additional_metadata, **(item.additional_metadata or {})}, of="the metadata"
    )
    keys = Keys(task.name, whole, metadata)
    run = NewRun(
        id=new_id(),
        task=task.name,
        kind=task.kind,
        version=task.version,
        input=whole,
        metadata=metadata,
        priority=item.priority or task.options.default_priority,
        parent=parent.number if parent else None,
        child_key=item.child_key,
        child_index=index if parent else None,
        key=key,
        home=parent.home if parent else engine.home,
        deadline=deadline_of(item.deadline, task.options.deadline, engine.clock.now()),
        cancel_grace=task.options.cancel_grace,
        cancel_with_parent=item.cancel_with_parent,
        event=event.id if event else None,
        filter_payload=filter_payload,
        needs=needs_of(task.options, keys, task.name),
        idempotency=idempotency_of(task.options.idempotency, item.idempotency_key, keys),
    )
    return signed(engine, run)


def signed(engine: Engine, run: NewRun) -> NewRun:
    """Give a run's record with the user's signature, where there is a key."""
    signature = engine.sign(run)
    return run if signature is None else replace(run, signature=signature)
