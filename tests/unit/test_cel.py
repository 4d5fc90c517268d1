"""CEL filters: the public face. What the language says is in `test_cel_conformance`, its limits in `test_cel_bounds`."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from durable_nb.engine import cel
from durable_nb.engine.cel import compile_filter, evaluate
from durable_nb.errors import ExpressionError, ExpressionEvaluationError


@pytest.mark.parametrize("expression", ["", " ", "\n\t "])
def test_an_empty_filter_is_always_true(expression: str) -> None:
    assert compile_filter(expression).matches(input=None)
    assert evaluate(expression) is True


def test_a_filter_sees_five_variables() -> None:
    compiled = compile_filter("input.a == 1 && output == 2 && additional_metadata.b == 'x' && event_key == 'k' && scope == 's'")
    given_all = {"input": {"a": 1}, "output": 2, "additional_metadata": {"b": "x"}, "event_key": "k", "scope": "s"}
    assert compiled.matches(**given_all)  # type: ignore[arg-type]
    assert compiled.value(given_all) is True
    for name in ("output", "event_key", "scope"):
        assert not compiled.matches(**{**given_all, name: "other"})  # type: ignore[arg-type]


def test_variables_that_are_not_given_are_empty() -> None:
    expression = "output == null && additional_metadata == {} && event_key == '' && scope == null"
    assert compile_filter(expression).matches(input=None)
    assert evaluate(expression) is True


def test_a_filter_must_give_a_bool() -> None:
    for expression, kind in (("input", "null_type"), ("1", "int"), ("'true'", "string"), ("[true]", "list")):
        with pytest.raises(ExpressionEvaluationError, match=f"must give true or false, not {kind}"):
            compile_filter(expression).matches(input=None)


def test_evaluate_refuses_a_variable_that_no_filter_has() -> None:
    with pytest.raises(
        ExpressionError, match="no variable `body`: give input, output, additional_metadata, event_key, scope or payload"
    ):
        evaluate("true", body=1)


def test_the_words_of_the_errors() -> None:
    with pytest.raises(ExpressionEvaluationError) as failed:
        evaluate("input.kind == 'paid' &&\n  input.order.total > 5", input={"kind": "paid", "order": {}})
    assert str(failed.value) == (
        "The CEL expression at `input.order.total` (line 2, column 3) failed: there is no field 'total'; guard it with has(...)."
    )
    with pytest.raises(ExpressionError) as refused:
        compile_filter("input.a > amount")
    assert str(refused.value) == (
        "The CEL expression does not compile at `amount` (line 1, column 11): `amount` is not known; write input.amount for a "
        "field of the payload, or input, output, additional_metadata, event_key, scope or payload."
    )


def test_the_first_error_is_the_one_that_is_told() -> None:
    with pytest.raises(ExpressionEvaluationError, match="no field 'a'"):
        evaluate("input.a || input.b", input={})


def test_a_filter_is_compiled_once() -> None:
    expression = "input.cached == 1"
    assert compile_filter(expression) is compile_filter(expression)
    before = cel._compile.cache_info()
    assert before.maxsize == cel.CACHED_EXPRESSIONS
    for n in range(cel.CACHED_EXPRESSIONS + 10):
        compile_filter(f"input == {n}")
    assert cel._compile.cache_info().currsize == cel.CACHED_EXPRESSIONS


def test_the_input_is_not_changed_and_the_result_is_the_callers_own() -> None:
    payload = {"l": [1, {"a": 2}]}
    result = evaluate("input.l", input=payload)
    assert isinstance(result, list)
    result.append(3)
    result[1]["a"] = 4
    assert payload == {"l": [1, {"a": 2}]}
    literal = evaluate("[1, [2]]")
    assert isinstance(literal, list)
    literal[1].append(9)
    assert evaluate("[1, [2]]") == [1, [2]]


def test_one_filter_serves_many_threads() -> None:
    compiled = compile_filter("input.l.map(x, input.l.filter(y, y < x).map(z, z + input.n)) == output")

    def expected(n: int) -> list[list[int]]:
        return [[z + n for z in range(x)] for x in range(20)]

    def run(n: int) -> bool:
        right = compiled.matches(input={"l": list(range(20)), "n": n}, output=expected(n))
        wrong = compiled.matches(input={"l": list(range(20)), "n": n}, output=expected(n + 1))
        return right and not wrong

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(run, range(200)))
            compiled_at_once = list(pool.map(lambda n: compile_filter(f"input == {n % 7} || input == 'threads'"), range(100)))
    finally:
        sys.setswitchinterval(switch)
    assert all(each.matches(input="threads") for each in compiled_at_once)


IN_A_FRESH_PROCESS = """
import sys
limit = sys.getrecursionlimit()
import durable_nb.engine.cel as cel
assert not {"celpy", "lark", "re2", "pendulum"} & sys.modules.keys()
assert cel.compile_filter("").matches(input=1)
assert not {"celpy", "lark", "re2"} & sys.modules.keys()
assert cel.compile_filter("input == 1").matches(input=1)
assert sys.getrecursionlimit() == limit
import celpy
for runner in (celpy.InterpretedRunner, celpy.CompiledRunner):
    environment = celpy.Environment(runner_class=runner)
    assert environment.program(environment.compile("1 + 1 == 2")).evaluate({})
"""


def test_cel_python_is_loaded_late_and_left_usable() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
