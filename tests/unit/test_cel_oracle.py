"""CEL filters: numbers, equality and texts against an oracle, on values and texts that hypothesis makes up."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from durable_nb.engine.cel import compile_filter, evaluate
from durable_nb.errors import ExpressionError, ExpressionEvaluationError

INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = INT64 | st.floats()
SMALL = st.integers(-3, 3) | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | SMALL | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=3),
    max_leaves=6,
)


def oracle_equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(oracle_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(oracle_equal(a[k], b[k]) for k in a)
    return bool(a == b)


@given(NUMBERS, NUMBERS)
@example(2**53 + 1, float(2**53))
@example(2**63 - 1, 2.0**63)
@example(math.nan, math.nan)
@example(0, -0.0)
def test_numbers_compare_by_their_value(a: float, b: float) -> None:
    row = {"a": a, "b": b}
    signs = {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
    assert {sign: evaluate(f"input.a {sign} input.b", input=row) for sign in signs} == signs
    assert evaluate("input.a in [input.b]", input=row) == (a == b)


@given(JSON, JSON)
def test_json_values_are_equal_as_an_oracle_says(a: object, b: object) -> None:
    assert evaluate("input.a == input.b", input={"a": a, "b": b}) == oracle_equal(a, b)
    assert evaluate("input.a != input.b", input={"a": a, "b": b}) != oracle_equal(a, b)
    assert evaluate("input.a in [[], input.b]", input={"a": a, "b": b}) == (oracle_equal(a, b) or oracle_equal(a, []))
    assert evaluate("input", input=a) == a


@given(INT64, INT64)
@example(-(2**63), -1)
@example(2**63 - 1, 1)
@example(-7, 2)
@example(1, 0)
def test_ints_calculate_as_an_oracle_says(a: int, b: int) -> None:
    # C's division, out of the sign and the magnitudes
    quotient = None if b == 0 else (1 if (a < 0) == (b < 0) else -1) * (abs(a) // abs(b))
    results = {"+": a + b, "-": a - b, "*": a * b, "/": quotient}
    if quotient is not None:
        results["%"] = a - b * quotient if quotient != 2**63 else 2**63
    for sign, result in results.items():
        expression = f"input.a {sign} input.b"
        if result is not None and -(2**63) <= result < 2**63:
            answer = evaluate(expression, input={"a": a, "b": b})
            assert type(answer) is int
            assert answer == result
        else:
            with pytest.raises(ExpressionEvaluationError, match=r"out of the range of int|division by zero"):
                evaluate(expression, input={"a": a, "b": b})


@given(st.floats(), st.floats())
@example(1.0, -0.0)
@example(0.0, 0.0)
def test_doubles_calculate_as_ieee_754_says(a: float, b: float) -> None:
    over_zero = math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, math.copysign(1, a) * math.copysign(1, b))
    oracle = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else over_zero}
    for sign, expected in oracle.items():
        result = evaluate(f"input.a {sign} input.b", input={"a": a, "b": b})
        assert isinstance(result, float)
        assert repr(result) == repr(expected)  # tells -0.0 from 0.0, and takes one NaN for another


@given(st.text())
def test_strings_measure_and_convert_by_code_points(text: str) -> None:
    assert evaluate("size(input)", input=text) == len(text)
    assert evaluate("string(bytes(input)) == input", input=text) is True


@given(st.text(max_size=40) | st.text("()[]{}'\"\\.,?:|&!=<>+-*/% \n01aeuxinput", max_size=40))
@example("'\\")
@example("0x")
@example("1.0.0")
def test_any_text_compiles_or_is_refused_with_an_expression_error(text: str) -> None:
    try:
        compile_filter(text).value({"input": {}})
    except (ExpressionError, ExpressionEvaluationError) as error:
        assert re.match(r"The CEL expression\b.*[^.]\.$", str(error), re.DOTALL)
