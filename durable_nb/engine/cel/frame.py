"""What one evaluation has of its own: its variables and the steps that are left.

Invariant: whatever takes time in proportion to the values is charged before it is done, and nothing absorbs a used-up budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durable_nb.engine.cel.limits import MAX_STEPS

DEFAULTS: Final[dict[str, object]] = {
    "input": None,
    "output": None,
    "additional_metadata": {},
    "event_key": "",
    "scope": None,
    "payload": {},
}
VARIABLES: Final = tuple(DEFAULTS)
"""The names that a filter may use, in the order of their slots."""

CHARS_A_STEP: Final = 64


class OutOfStepsError(Exception):
    """The budget is used up. No `Fault`, because nothing may absorb it."""


class Frame:
    """One evaluation: the variables (the filter's own, then one for each level of macros) and the steps that are left.

    Written only by the thread that evaluates.
    """

    __slots__ = ("slots", "steps")

    def __init__(self, slots: list[object]) -> None:
        self.slots = slots
        self.steps = MAX_STEPS

    def charge(self, steps: int) -> None:
        """Take steps off the budget."""
        self.steps -= steps
        if self.steps < 0:
            raise OutOfStepsError

    def charge_text(self, text: str | bytes) -> None:
        """Take the steps that reading a text once costs."""
        self.charge(len(text) // CHARS_A_STEP)


Eval = Callable[[Frame], object]
"""A compiled part of an expression."""
Overload = Callable[..., object]
"""An operation: it takes the frame and the values of its operands."""
