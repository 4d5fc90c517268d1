"""The index of filters: what it leaves out would have been evaluated to false, without an error, for any filter and event."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from durable_nb.engine.cel import MAX_INPUT_DEPTH, compile_filter
from durable_nb.engine.cel.equalities import LONGEST_TEXT, Told
from durable_nb.errors import ExpressionEvaluationError

LITERALS = [
    "42",
    "42.0",
    "42u",
    "-42",
    "0",
    "-0.0",
    "1",
    "0.1",
    "1e300",
    "true",
    "false",
    "null",
    '"42"',
    '"a"',
    '""',
    "r'a'",
    "'é'",
]
FIELDS = ["input.a", "input.b", "input.a.b", 'input["a"]', "input", "additional_metadata.a", "scope", "event_key", "payload.a"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 42, -42, 42.0, -0.0, 0.1, 1e300, 2**63, 2**200, math.nan, math.inf, "42", "a", "", "é", "\ud800"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2), max_leaves=4
)
COMPARISONS = st.builds(
    lambda field, literal, is_turned: f"{literal} == {field}" if is_turned else f"{field} == {literal}",
    st.sampled_from(FIELDS),
    st.sampled_from(LITERALS),
    st.booleans(),
)
OTHERS = st.sampled_from(
    ["has(input.a)", "input.a > 1", "input.zero.none", "1", "input.a == input.b", "!(input.a == 1)", "[1].all(i, i == input.a)"]
)
FILTERS = st.lists(COMPARISONS | OTHERS | st.builds("({} || {})".format, COMPARISONS, OTHERS), min_size=1, max_size=4).map(
    " && ".join
)
EVENTS = st.fixed_dictionaries(
    {
        "input": VALUES,
        "additional_metadata": st.dictionaries(st.sampled_from("ab"), SCALARS, max_size=2),
        "event_key": st.sampled_from(["a", "42"]),
        "scope": st.sampled_from([None, "a", ""]),
    }
)


def answer(expression: str, event: dict[str, Any]) -> bool | str:
    try:
        return compile_filter(expression).matches(**event)
    except ExpressionEvaluationError as error:
        return str(error)


def is_left_out(expression: str, event: dict[str, Any]) -> bool:
    equalities = compile_filter(expression).equalities
    if equalities is None:
        return False
    told = Told(event).value_of(equalities.fields)
    return told is not None and told != equalities.value


@settings(max_examples=1500, deadline=None)
@given(FILTERS, EVENTS)
@example("input.a == 1 && input.b == 1", {"input": {"b": 2}, "additional_metadata": {}, "event_key": "", "scope": None})
@example("input.a == true", {"input": {"a": 1}, "additional_metadata": {}, "event_key": "", "scope": None})
def test_what_the_index_leaves_out_is_false(expression: str, event: dict[str, Any]) -> None:
    if is_left_out(expression, event):
        assert answer(expression, event) is False


@pytest.mark.parametrize("value", [42, 42.0])
@pytest.mark.parametrize("literal", ["42", "42.0", "42u", "0x2a"])
def test_equal_numbers_have_one_place(literal: str, value: object) -> None:
    event = {"input": {"user_id": value}}
    assert answer(f"input.user_id == {literal}", event) is True
    assert not is_left_out(f"input.user_id == {literal}", event)
    assert is_left_out(f"input.user_id == {literal}", {"input": {"user_id": 43}})


@pytest.mark.parametrize(
    "expression",
    [
        "input.a == 1 && input.b > 2",
        "has(input.a) && input.a == 1",
        "1 == input.a && input.b == 'x'",
        '(input["a"] == 1)',
        "input.a == -1",
        "additional_metadata.a == null",
        "scope == 'x'",
    ],
)
def test_filters_that_begin_with_equality_are_indexed(expression: str) -> None:
    assert compile_filter(expression).equalities is not None


@pytest.mark.parametrize(
    "expression",
    ["input.a == 1 || input.b == 2", "input.a > 1 && input.b == 1", "input.a != 1", "input.a == input.b", "input.a == [1]"],
)
def test_others_are_always_evaluated(expression: str) -> None:
    assert compile_filter(expression).equalities is None


def test_what_cannot_be_told_surely_leaves_nothing_out() -> None:
    nested: Any = 1
    for _ in range(MAX_INPUT_DEPTH + 1):
        nested = [nested]
    payloads: list[Any] = [{}, {"a": {}}, [1], {"a": "x" * (LONGEST_TEXT + 1)}, {"a": 2, "deep": nested}]
    for payload in payloads:
        assert not is_left_out("input.a == 1 && input.a.b == 2", {"input": payload}), payload
