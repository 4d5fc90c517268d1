"""CEL filters: bounded, whatever the expression and the values are."""

from __future__ import annotations

import itertools
import time

import pytest

from durable_nb.engine import cel
from durable_nb.engine.cel import compile_filter, evaluate
from durable_nb.engine.cel.frame import Frame
from durable_nb.errors import ExpressionError, ExpressionEvaluationError


@pytest.mark.parametrize(
    "text",
    [
        "(" * 8000,
        "[" * 8000,
        "[" * 4000 + "]" * 4000,
        "{1:" * 2000,
        "(" * 65 + "1" + ")" * 65,
        "!" * 8000 + "true",
        "-" * 8000 + "1",
        "input" + ".a" * 4000,
        "input" + "[0]" * 2600,
        "true?1:" * 1100 + "2",
        "1<" * 4000 + "1",
        "size(" * 1300 + "1" + ")" * 1300,
        "input.map(x," * 64 + "1" + ")" * 64,
        "'" + "\\" * 8000,
        "'" * 8191,
        '"' * 8191,
        "'''" + "\\'" * 4000,
        "0" * 8000 + "1",
        "1." * 4000,
    ],
    ids=lambda text: f"{text[:12]}...{text[-3:]} {len(text)}",
)
def test_hostile_expressions_are_refused_quickly(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError):
        compile_filter(text)
    assert time.perf_counter() - start < 5  # a tenth of a second; the bound tells linear from exponential on any machine


def test_ten_thousand_levels_are_too_long_and_say_so() -> None:
    for text in ("(" * 10_000, "[" * 10_000 + "]" * 10_000):
        with pytest.raises(ExpressionError, match=r"has [12]0,000 bytes, more than the 8,192 allowed: shorten it"):
            compile_filter(text)


def test_the_length_is_counted_in_bytes() -> None:
    fits = "'" + "\u00e9" * 4095 + "'"
    assert len(fits.encode()) == cel.MAX_EXPRESSION_BYTES
    assert evaluate(fits) == "\u00e9" * 4095
    with pytest.raises(ExpressionError, match="8,193 bytes"):
        compile_filter(fits + " ")


def test_the_deepest_and_longest_that_are_allowed_work() -> None:
    deep = cel.MAX_DEPTH
    assert evaluate("(" * deep + "1" + ")" * deep) == 1
    assert evaluate("!" * (deep - 1) + "true") is (deep % 2 == 1)
    assert evaluate("1" + "+1" * 4000) == 4001
    assert evaluate(" || ".join(f"input == {n}" for n in range(500)), input=499) is True
    assert evaluate("[" * deep + "]" * deep) is not None
    value: object = 1
    for _ in range(cel.MAX_INPUT_DEPTH - 1):
        value = [value]
    assert evaluate("input == input", input=value) is True


SLOW = {"l": list(range(1000)), "s": "a" * 4_000_000, "deep": "((a?){30}){30}b", "k": "x" * 50_000}
SLOW_EXPRESSIONS = [
    "input.l.all(x, input.l.all(y, input.l.all(z, x + y + z >= 0)))",
    "input.l.map(x, input.l.map(y, input.l)) == input.l",
    "input.l.map(x, input.l.filter(y, y in input.l)) == []",
    "input.l.exists(x, input.l != input.l + [1] && input.l == input.l && false)",
    "input.l.all(x, input.s == input.s)",
    "input.l.all(x, input.s <= input.s)",
    "input.l.all(x, input.s + 'a' != '')",
    "input.l.all(x, !input.s.contains('b'))",
    "input.l.all(x, bytes(input.s) != b'')",
    "input.l.all(x, {'a': 1}.exists(k, input.k + string(x) in {input.k: 1}) || true)",
    "input.l.exists(x, input.l.exists(y, 1 / 0 == y))",
    "input.l.exists(x, input.l.exists(y, {}[input.k] == y))",
    "input.l.exists(x, input.l.exists(y, timestamp(0).getHours(string(x) + string(y)) == 99))",
    "input.s.matches('((a?){30}){30}b')",
    "input.s.matches(input.deep)",
    "input.l.all(x, input.l.all(y, !'a'.matches(string(x) + 'b' + string(y))))",
]


@pytest.mark.parametrize("expression", SLOW_EXPRESSIONS)
def test_slow_expressions_stop_when_the_budget_is_used_up(expression: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionEvaluationError, match=r"failed: the budget of 100,000 steps is used up; nest fewer macros"):
        compile_filter(expression).matches(input=SLOW)
    assert time.perf_counter() - start < 5  # 60 ms at most where this was written; without the budget minutes to years


CHARGES = [
    ("input.a == 1 && input.a in {1: 2} && size(input.s) > 5 || input.s.startsWith('x')", 0, 60),
    ("input.s == input.s", 1000, 1010),
    ("input.s < input.s", 1000, 1010),
    ("input.s + input.s", 2000, 2010),
    ("bytes(input.s)", 1000, 1010),
    ("input.s in {}", 1000, 1010),
    ("{input.s: 1}", 1000, 1010),
    ("input.s.contains('b')", 1000, 1010),
    ("input.l == input.l", 1000, 1010),
    ("{'l': input.l} == {'l': input.l}", 1001, 1010),
    ("-1 in input.l", 1000, 1010),
    ("input.l + input.l", 250, 260),
    ("input.l.all(x, true)", 2000, 2010),
    ("input.l.map(x, x > 5, x)", 3000, 6000),
    ("'a'.matches('a')", 1, 10),
    ("'a'.matches(input.p)", 200, 210),
    ("input.s.matches('^b{20}')", 20_000, 50_000),
    ("timestamp(0).getHours('Europe/Paris')", 100, 110),
    ("timestamp(0).getHours()", 0, 0),
    ("duration('1h1h1h1h')", 2, 2),
]


@pytest.mark.parametrize(("expression", "least", "most"), CHARGES)
def test_work_is_charged_by_its_size(expression: str, least: int, most: int) -> None:
    payload = {"a": 1, "s": "a" * 64_000, "l": list(range(1000)), "p": "a"}
    compiled = compile_filter(expression)
    frame = Frame([payload, None, {}, "", None, {}, None])
    assert compiled._root is not None
    compiled._root(frame)
    assert least <= cel.MAX_STEPS - frame.steps <= most


def test_a_message_shows_only_a_part_of_what_is_long() -> None:
    for expression in ("{}[input]", "int(input)", "{input: 1, input: 2}", "timestamp(0).getHours(input)", f"{{}}.{'a' * 5000}"):
        with pytest.raises(ExpressionEvaluationError) as failed:
            evaluate(expression, input="a" * 100_000)
        assert len(str(failed.value)) < 300


def test_nothing_absorbs_a_used_up_budget() -> None:
    slow = "input.l.all(x, input.l.all(y, input.l.all(z, true)))"
    for expression in (f"{slow} || true", f"{slow} && false", f"[1].exists(i, {slow} || i == 1)"):
        with pytest.raises(ExpressionEvaluationError, match="budget"):
            compile_filter(expression).matches(input=SLOW)


def test_the_budget_counts_steps_so_that_the_same_event_gives_the_same_answer() -> None:
    compiled = compile_filter("input.all(x, input.all(y, x + y >= 0))")

    def fits(size: int) -> bool:
        try:
            return compiled.matches(input=list(range(size)))
        except ExpressionEvaluationError:
            return False

    largest = [max(size for size in range(90, 200) if fits(size)) for _ in range(3)]
    assert largest[0] == largest[1] == largest[2]
    assert 100 <= largest[0] < 199


def test_a_result_that_holds_one_part_many_times_is_bounded() -> None:
    with pytest.raises(ExpressionEvaluationError, match="budget"):
        evaluate("input.map(x, input).map(x, [x, x, x])", input=list(range(1000)))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "^(a|aa?)+$", "(.*a){12}$", "(x+x+)+y"])
def test_catastrophic_patterns_are_none_here(pattern: str) -> None:
    start = time.perf_counter()
    assert evaluate(f"input.matches('{pattern}')", input="a" * 5000 + "!") is False
    assert time.perf_counter() - start < 5


def test_a_simple_pattern_searches_a_million_characters() -> None:
    assert evaluate("input.matches('^order-[0-9]+$')", input="x" * 1_000_000) is False
    with pytest.raises(ExpressionEvaluationError, match="budget"):
        evaluate("input.matches('^order-[0-9]+$')", input="x" * 2_000_000)


def test_patterns_have_a_largest_length() -> None:
    with pytest.raises(ExpressionError, match="at most 1,024 characters"):
        compile_filter(f"'a'.matches('{'a' * 1025}')")
    with pytest.raises(ExpressionEvaluationError, match="at most 1,024 characters"):
        evaluate("'a'.matches(input)", input="a" * 1025)
    with pytest.raises(ExpressionEvaluationError, match="cannot read the pattern"):
        evaluate("'a'.matches(input)", input="(")


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> object:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([0] * (cel.MAX_INPUT_VALUES + 1), "more than 100,000 values"),
        ([[0] * 1000] * 101, "more than 100,000 values"),
        ("a" * (cel.MAX_INPUT_CHARS + 1), "4,194,304 characters; send a smaller event"),
        ({"k" * (cel.MAX_INPUT_CHARS + 1): 1}, "4,194,304 characters"),
        (nested(101), "nests deeper than 100 levels"),
        (nested(100_000), "nests deeper than 100 levels"),
        (cyclic(), "nests deeper than 100 levels"),
        (1 << 256, "more than 256 bits"),
        ({"a": {1: 2}}, "keys that are no strings"),
        ({"a": [object()]}, "a object that is no JSON value"),
        ((1, 2), "a tuple that is no JSON value"),
        (b"x", "a bytes that is no JSON value"),
    ],
    ids=itertools.count(),
)
def test_input_that_is_too_large_or_no_json_is_refused(payload: object, words: str) -> None:
    with pytest.raises(ExpressionEvaluationError, match=words):
        compile_filter("true").matches(input=payload)


def test_lone_surrogates_are_an_error_only_where_bytes_are_needed() -> None:
    assert evaluate("input == input && size(input) == 1", input="\ud800") is True
    for expression in ("bytes(input)", "input.matches('a')", "'a'.matches(input)"):
        with pytest.raises(ExpressionEvaluationError):
            evaluate(expression, input="\ud800")
    with pytest.raises((ExpressionError, ExpressionEvaluationError)):
        evaluate("'\ud800'.matches('a')")
