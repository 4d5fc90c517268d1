"""Gates: what of a task's conditions holds already when its parents have ended, and what has still to be waited for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from durable_nb.tasks.conditions import OrGroup, ParentCondition
from durable_nb.tasks.workflow import Gate


@dataclass(frozen=True)
class Look:
    """A gate as it stands.

    Attributes:
        open: the groups that have still to be satisfied, by sleeps and events.
        is_never: it can never become true.
    """

    open: tuple[OrGroup, ...] = ()
    is_never: bool = False

    @property
    def is_true(self) -> bool:
        """Whether it is true already."""
        return not self.open and not self.is_never


NEVER = Look(is_never=True)


def look_at(gate: Gate, holds: Callable[[ParentCondition], bool]) -> Look:
    """Judge the parents' conditions of a gate, which are decided once and for all.

    >>> look_at((), lambda condition: True).is_true
    True
    """
    still_open = []
    for group in gate:
        judged = [holds(condition) for condition in group if isinstance(condition, ParentCondition)]
        waits = [condition for condition in group if not isinstance(condition, ParentCondition)]
        if any(judged):
            continue
        if not waits:
            return NEVER
        still_open.append(OrGroup(tuple(waits)))
    return Look(tuple(still_open))
