"""Two histories side by side: aligned by node, with what differs. Pure.

>>> changes({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3], "c": None})
[('b[1]', '2', '3'), ('c', '', 'null')]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from durable_nb.log.records import Recorded, RunView

MOST_CHANGES = 20
MOST_TEXT = 200
MOST_VALUE = 256 * 1024  # characters of a value that is taken apart; a larger one only differs

Same = Literal["same", "asks differ", "outcomes differ", "only in the first", "only in the second"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One node in both histories.

    Attributes:
        changes: (where, in the first, in the second) of a value that differs, as JSON; at most 20.
    """

    node: int
    kind: Same
    first: Recorded | None
    second: Recorded | None
    changes: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two histories aligned by node.

    Attributes:
        first, second: the runs, and first_branch, second_branch their branches.
    """

    first: RunView
    first_branch: int
    second: RunView
    second_branch: int
    rows: Sequence[Row]

    @property
    def diverges_at(self) -> int | None:
        """The first node at which they differ; None: they do not."""
        return next((row.node for row in self.rows if row.kind != "same"), None)


def compared(first: Sequence[Recorded], second: Sequence[Recorded]) -> list[Row]:
    """Align two histories by node."""
    ours, theirs = ({item.node: item for item in items} for items in (first, second))
    return [_row(node, ours.get(node), theirs.get(node)) for node in sorted({*ours, *theirs})]


def _row(node: int, first: Recorded | None, second: Recorded | None) -> Row:
    kind: Same = "same"
    found: list[tuple[str, str, str]] = []
    if first is None or second is None:
        kind = "only in the second" if first is None else "only in the first"
    elif (first.kind, first.fingerprint) != (second.kind, second.fingerprint):
        kind = "asks differ"
    elif _outcome(first) != _outcome(second):
        kind, found = "outcomes differ", _differences(first, second)
    return Row(node=node, kind=kind, first=first, second=second, changes=tuple(found))


def _outcome(item: Recorded) -> tuple[str | None, object]:
    if item.outcome is None:
        return None, item.abandoned
    failure = item.outcome.failure
    return item.outcome.value, failure and (failure.type, failure.message)


def _differences(first: Recorded, second: Recorded) -> list[tuple[str, str, str]]:
    texts = [item.outcome.value if item.outcome else None for item in (first, second)]
    if any(text is None or len(text) > MOST_VALUE for text in texts):
        return []
    try:
        return changes(*(json.loads(text) for text in texts if text is not None))
    except (ValueError, RecursionError):
        return []


def changes(first: Any, second: Any) -> list[tuple[str, str, str]]:
    """Give where two JSON values differ, as (path, in the first, in the second); at most 20."""
    return list(islice(_changes(first, second, "", 0), MOST_CHANGES))


def _changes(first: Any, second: Any, path: str, depth: int) -> Iterator[tuple[str, str, str]]:
    if first == second and type(first) is type(second):
        return
    if isinstance(first, dict) and isinstance(second, dict) and depth < 64:
        for key in dict.fromkeys([*first, *second]):
            below = f"{path}.{key}" if path else key
            if key not in second:
                yield below, _text(first[key]), ""
            elif key not in first:
                yield below, "", _text(second[key])
            else:
                yield from _changes(first[key], second[key], below, depth + 1)
    elif isinstance(first, list) and isinstance(second, list) and depth < 64:
        for index in range(max(len(first), len(second))):
            below = f"{path}[{index}]"
            if index >= len(second):
                yield below, _text(first[index]), ""
            elif index >= len(first):
                yield below, "", _text(second[index])
            else:
                yield from _changes(first[index], second[index], below, depth + 1)
    else:
        yield path or "value", _text(first), _text(second)


def _text(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= MOST_TEXT else said[: MOST_TEXT - 1] + "…"
