"""Registering the conditions of a wait, together with the checkpoint that asks for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from durable_nb.engine.cel import compile_filter
from durable_nb.log import checkpoints, waits
from durable_nb.log.records import Ask, Completion, NewWait
from durable_nb.tasks.conditions import Condition, OrGroup, SleepCondition, UserEventCondition
from durable_nb.tasks.durations import sleep_seconds
from durable_nb.tasks.payload import check_text

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.waiting import Pending


def nothing(connection: sqlite3.Connection, node: int) -> None:
    """Write nothing more."""


def waits_of(groups: Sequence[OrGroup], *, now: float) -> list[NewWait]:
    """Give the conditions of a wait, each with the number of its group; sleeps end so long after now."""
    members = [(number, condition) for number, group in enumerate(groups) for condition in group.conditions]
    return [_wait_of(condition, item=item, group=group, now=now) for item, (group, condition) in enumerate(members)]


def _wait_of(condition: Condition, *, item: int, group: int, now: float) -> NewWait:
    match condition:
        case SleepCondition():
            due_at = now + sleep_seconds(condition.duration)
            return NewWait(item=item, group=group, kind="sleep", name=condition.readable_key, due_at=due_at)
        case UserEventCondition():
            return NewWait(
                item=item,
                group=group,
                kind="event",
                name=condition.readable_key,
                key=condition.event_key,
                scope=condition.scope,
                expression=condition.expression or None,
            )


def register(
    execution: Execution,
    ask: Ask,
    new_waits: Sequence[NewWait],
    *,
    at: float,
    first: Callable[[sqlite3.Connection, int], Completion | None] = nothing,
) -> tuple[int, Pending]:
    """Ask for conditions to become true.

    Args:
        at: the time from which their sleeps count.
        first: what the same transaction writes before; where it gives a completion, no condition is registered.

    Raises:
        InputValidationError: a name that the log cannot hold; nothing was asked.
    """
    for wait in new_waits:
        for text in (wait.name, wait.key, wait.scope, wait.expression):
            if text is not None:
                check_text(text, of="a name in a wait")
    new_waits = [indexed(wait) for wait in new_waits]
    engine, claim = execution.engine, execution.claim

    def write(connection: sqlite3.Connection, node: int) -> Completion | None:
        place = (claim.number, claim.branch, node)
        checkpoints.add_ask(connection, *place, ask, at=at)
        return first(connection, node) or waits.register(connection, *place, new_waits, at=at)

    def after(is_written: bool) -> None:
        due = [wait.due_at for wait in new_waits if wait.due_at is not None]
        if is_written and due:
            engine.timers.consider(min(due))
        if is_written and any(wait.since is not None for wait in new_waits):
            engine.matcher.look_back_soon()

    return execution.ask(ask, write, after)


def indexed(wait: NewWait) -> NewWait:
    """Give a condition with what the index needs of its filter."""
    equalities = compile_filter(wait.expression).equalities if wait.expression else None
    if equalities is None:
        return wait
    return replace(wait, filter_fields=equalities.fields, filter_value=equalities.value)
