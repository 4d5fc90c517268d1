"""What locals are described as: bounded text, made without asking the values themselves; and two histories compared."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import numpy
import pandas  # type: ignore[import-untyped]
import pytest

from durable_nb.client.frames import LENGTH, describe, size_of, type_name
from durable_nb.log.comparing import changes, compared
from durable_nb.log.records import Failure, Outcome, Recorded


class Hostile:
    """What a value's own code may do when it is shown."""

    def __init__(self) -> None:
        self.fields = "seen"

    def __repr__(self) -> NoReturn:
        raise SystemExit("repr was called")

    __str__ = __len__ = __iter__ = __getattr__ = __bool__ = __hash__ = __eq__ = __repr__  # type: ignore[assignment, misc]


@dataclasses.dataclass(slots=True)
class Row:
    a: int
    b: Any = None


def test_values_are_described_by_what_they_are() -> None:
    assert describe(Hostile()) == "Hostile(fields='seen')"
    assert describe([Hostile()] * 2) == "[Hostile(fields='seen'), Hostile(fields='seen')]"
    assert describe(Row(1, {"x": (2,)})) == "Row(a=1, b={'x': (2,)})"
    assert describe(ValueError("no")) == "ValueError('no')"
    assert describe(numpy.arange(10.0)) == "array float64: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, …]"
    assert describe(pandas.DataFrame({"mpg": [1], "hp": [2]})) == "columns mpg, hp"
    assert (type_name([Row(1)] * 3), size_of([Row(1)] * 3)) == ("list[Row]", "3")
    assert (type_name([1, "a"]), size_of(numpy.zeros((406, 9)))) == ("list", "406 × 9")


@pytest.mark.parametrize("kind", ["text", "list", "integer", "dict", "nested", "bytes"])
def test_descriptions_are_short_however_large_the_value(kind: str) -> None:
    wide: Any = [["z" * 99] * 99] * 99
    values = {"text": "x" * 10**6, "list": [1] * 10**6, "integer": 10**99_999, "dict": dict.fromkeys(range(999), "y" * 99)}
    assert 1 < len(describe({**values, "nested": wide, "bytes": b"b" * 10**6}[kind])) <= LENGTH


def test_a_value_that_holds_itself_is_described() -> None:
    knot: list[Any] = []
    knot.append(knot)
    assert describe(knot) == "[[[…]]]"


def item(node: int, value: str | None, *, fingerprint: bytes = b"a", failure: Failure | None = None) -> Recorded:
    outcome = None if value is None and failure is None else Outcome(value, failure)
    return Recorded(node=node, kind="memo", ask="memo", fingerprint=fingerprint, asked_at=0.0, seq=node, outcome=outcome)


def test_histories_are_aligned_by_node_with_what_differs() -> None:
    first = [item(1, "1"), item(2, '{"a": [1, 2]}'), item(3, "1"), item(4, None, failure=Failure("E", "m")), item(5, "1")]
    second = [item(1, "1"), item(2, '{"a": [1, 3, 4]}'), item(3, "1", fingerprint=b"b"), item(4, "2"), item(6, "1")]
    rows = compared(first, second)
    kinds = ["same", "outcomes differ", "asks differ", "outcomes differ", "only in the first", "only in the second"]
    assert [row.kind for row in rows] == kinds
    assert rows[1].changes == (("a[1]", "2", "3"), ("a[2]", "", "4"))


def test_differences_are_bounded_and_types_count() -> None:
    assert len(changes(list(range(1_000)), [])) == 20
    assert changes(True, 1) == [("value", "true", "1")]
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    [(path, _, _)] = changes(deep, [])
    assert len(path) < 400
