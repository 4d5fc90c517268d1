"""Errors as CEL means them, and the words that say where one happened.

Invariant: a fault is told with its innermost place, and a message costs no more than a line: whatever it shows of an
expression or a value is shortened.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """A part of the expression's text. `start` is None where the parser knows no position."""

    start: int | None
    end: int | None


class Fault(Exception):  # noqa: N818  turned into ExpressionEvaluationError at the edge
    """An error as CEL means it: a value of an expression, that `&&`, `||`, `all` and `exists` may absorb."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place

    def at(self, place: Place) -> Fault:
        """Say where it happened, unless that is known already."""
        if self.place is None:
            self.place = place
        return self


def shorten(text: str) -> str:
    """At most 60 characters of a text, on one line."""
    flat = " ".join(text[:200].split())
    return flat if len(flat) <= 60 else f"{flat[:57]}..."


def where(text: str, start: int | None, end: int | None) -> str:
    """`snippet` (line 1, column 7)."""
    position = start or 0
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    snippet = shorten(text[position:end])
    return f"`{snippet}` (line {line}, column {column})" if snippet else f"its end (line {line}, column {column})"


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: a, b or c."""
    *most, last = names
    return f"{', '.join(most)} or {last}"
