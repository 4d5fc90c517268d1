"""Conditions of a wait: sleeps, events, and groups of which one is enough.

A wait is a list of groups: every group must be satisfied (AND), one condition satisfies its group (OR).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from durable_nb.errors import DeclarationError
from durable_nb.tasks.options import format_duration

if TYPE_CHECKING:
    from durable_nb.tasks.task import Task


@dataclass(frozen=True)
class SleepCondition:
    """Satisfied when `duration` has passed since the wait was first asked.

    >>> SleepCondition(timedelta(hours=24)).readable_key
    'sleep:1d'
    """

    duration: timedelta
    readable_data_key: str | None = None

    @property
    def readable_key(self) -> str:
        """The key of this condition's data in the wait's result."""
        return self.readable_data_key or f"sleep:{format_duration(self.duration.total_seconds())}"


@dataclass(frozen=True)
class UserEventCondition:
    """Satisfied by the first event of `event_key` that matches.

    Attributes:
        event_key: the exact key, such as ``"approve:sales"``.
        expression: a CEL filter over ``input`` (the payload), ``additional_metadata``, ``event_key`` and ``scope``; empty
            means any.
        scope: takes only events pushed with this very scope; None takes events of every scope.
    """

    event_key: str
    expression: str | None = None
    readable_data_key: str | None = None
    scope: str | None = None

    @property
    def readable_key(self) -> str:
        """The key of this condition's data in the wait's result."""
        return self.readable_data_key or self.event_key


@dataclass(frozen=True)
class ParentCondition:
    """Satisfied when `expression` holds for the output of a parent.

    For `wait_for`, `skip_if` and `cancel_if` of a workflow's task; judged once, when all parents of the task have ended.

    Attributes:
        parent: one of the task's parents.
        expression: CEL over ``output`` (the parent's output; ``{"skipped": true}`` where it was skipped) and ``input`` (the
            workflow's); empty means any. One that fails on them counts as not satisfied, and the run's log says why.

    Example:
        >>> @wf.task(parents=[count], skip_if=ParentCondition(count, "output.rows == 0"))  # doctest: +SKIP
        ... def load(input: EmptyModel, ctx: Context) -> None: ...
    """

    parent: Task[Any]
    expression: str | None = None
    readable_data_key: str | None = None


Condition = SleepCondition | UserEventCondition


@dataclass(frozen=True)
class OrGroup:
    """Conditions of which one is enough. Made by `or_`."""

    conditions: tuple[Condition, ...]


def or_(*conditions: Condition | ParentCondition) -> OrGroup:
    """Give a group that is satisfied by any of its conditions.

    Raises:
        DeclarationError: no condition, or a thing that is none.

    >>> group = or_(SleepCondition(timedelta(hours=1)), UserEventCondition("order:paid"))
    """
    for condition in conditions:
        if not isinstance(condition, SleepCondition | UserEventCondition | ParentCondition):
            raise DeclarationError(
                f"or_ takes SleepCondition, UserEventCondition and ParentCondition, not {type(condition).__name__}."
            )
    if not conditions:
        raise DeclarationError("or_ needs at least one condition.")
    return OrGroup(cast("tuple[Condition, ...]", conditions))  # `grouped` and `gate` tell where a ParentCondition may stand


def grouped(conditions: tuple[Condition | OrGroup, ...]) -> tuple[OrGroup, ...]:
    """Give the top-level conditions of a wait as groups, a lone condition as a group of its own."""
    if not conditions:
        raise DeclarationError("aio_wait_for needs at least one condition.")
    groups = tuple(item if isinstance(item, OrGroup) else or_(item) for item in conditions)
    if any(isinstance(condition, ParentCondition) for group in groups for condition in group.conditions):
        raise DeclarationError(
            "A ParentCondition is for wait_for, skip_if and cancel_if of a workflow's task, not for aio_wait_for."
        )
    return groups


def describe(groups: tuple[OrGroup, ...]) -> str:
    """Give a wait in words.

    >>> describe(grouped((or_(UserEventCondition("paid"), SleepCondition(timedelta(days=1))),)))
    'paid or 1d'
    """
    alternatives = [" or ".join(map(_words, group.conditions)) for group in groups]
    return (
        alternatives[0]
        if len(alternatives) == 1
        else " and ".join(f"({text})" if " or " in text else text for text in alternatives)
    )


def _words(condition: Condition) -> str:
    if isinstance(condition, SleepCondition):
        return format_duration(condition.duration.total_seconds())
    scope = f" in {condition.scope}" if condition.scope is not None else ""
    return condition.event_key + scope + (f" if {condition.expression}" if condition.expression else "")
