"""Definitions and constants as text: the same back again, or a sentence; and reading executes nothing."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from durable_nb.definitions import Definition, rebuild
from durable_nb.definitions.names import names_of
from durable_nb.definitions.sources import parse
from durable_nb.definitions.values import OversizeError, UnkeepableError, decode, encode
from durable_nb.errors import DeclarationError, LogError, NewerLogError
from tests.unit.test_definitions import Notebook, notebook, nothing

__all__ = ["notebook"]  # the fixture

# ---------------------------------------------------------------- constants

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=20),
    st.binary(max_size=20),
    st.complex_numbers(allow_nan=False),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(minutes=-90))])),
    st.times(),
    st.timedeltas(),
    st.builds(range, st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)),
)
hashables = st.recursive(
    scalars, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=4
)
constants = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        st.sets(hashables, max_size=3),
        st.tuples(inner),
        st.fixed_dictionaries({"$tuple": inner}),
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equal, with the same types all through, and dicts in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return same(sorted(map(encode, one)), sorted(map(encode, other)))
    return bool(one == other)


@given(constants)
def test_constants_come_back_as_they_were(value: object) -> None:
    assert same(decode(encode(value)), value)
    assert encode(decode(encode(value))) == encode(value)


@pytest.mark.parametrize(
    "value",
    [
        float("inf"),
        -0.0,
        10**500,
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("UTC")),
        ZoneInfo("UTC"),
        time(1, 2, tzinfo=UTC),
        date(2024, 2, 29),
        Decimal("1.10"),
        UUID(int=3),
        Path("a") / "b",
        re.compile(rb"a+", re.DOTALL),
        re.compile("ä", re.IGNORECASE | re.ASCII),
        logging.getLogger("some.name"),
        logging.getLogger(),
        {"b": 1, "a": {"$set": [1]}},
        "\ud800",
    ],
    ids=repr,
)
def test_constants_of_every_kind(value: object) -> None:
    assert same(decode(encode(value)), value)
    assert str(decode(encode(value))) == str(value)


def test_numbers_without_a_decimal_text_come_back() -> None:
    assert str(decode(encode(float("nan")))) == "nan"
    assert decode(encode(-(10**5000))) == -(10**5000)


def test_sets_have_one_text_whatever_their_order() -> None:
    assert encode({"a", "b", "c", 1, None}) == encode({None, 1, "c", "b", "a"})


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Level.LOW,
        Text("a"),
        OrderedDict(),
        defaultdict(list),
        [lambda: 1],
        {"a": [{1: object()}]},
        logging.Logger("loose"),
        print,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_constant_is_refused(value: object) -> None:
    with pytest.raises(UnkeepableError):
        encode(value)


@pytest.mark.parametrize("value", ["x" * 65_537, b"x" * 50_000, ["ab"] * 30_000, {n: n for n in range(20_000)}, "ä" * 20_000])
def test_the_bound_is_64_kib_of_text(value: object) -> None:
    with pytest.raises(OversizeError):
        encode(value)


def test_just_within_the_bound() -> None:
    value = "x" * (64 * 1024 - 2)
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"a":1}', '{"$tuple":1}', '{"$list":[],"$set":[]}', '{"$dict":[[[],1]]}', '{"$uuid":"x"}']
)
def test_a_text_that_is_no_constant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)


# ---------------------------------------------------------------- definitions


@pytest.fixture
def definition(notebook: Notebook) -> Definition:
    notebook.cell("import json as j\nfrom math import floor\nN = {'ä': 1}\nlive = object()\ndef helper(): return floor(N)")
    notebook.cell("def task(x): return j, helper(), live, task")
    return notebook.capture("task")


def test_a_definition_comes_back_and_has_one_text(definition: Definition) -> None:
    text = definition.to_json()
    assert Definition.from_json(text) == definition
    shuffled = json.dumps(dict(reversed(json.loads(text).items())), indent=2)
    assert Definition.from_json(shuffled).to_json() == text
    assert text.isascii() and "\n" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"format": "1"},
        {"name": "a b"},
        {"name": 3},
        {"source": None},
        {"first_line": 0},
        {"first_line": "1"},
        {"version": "xyz"},
        {"version": "0" * 15 + "G"},
        {"more": 1},
        {"lost": [{}]},
        {"bindings": [{"kind": "eval", "name": "a", "value": "1"}]},
        {"bindings": [{"kind": "constant", "name": "a.b", "value": "1"}]},
        {"bindings": [{"kind": "constant", "name": "a", "value": "1"}] * 2},
        {"bindings": [{"kind": "constant", "name": "a", "value": "1", "source": "x"}]},
        {"bindings": [{"kind": "code", "name": "a", "source": "x", "first_line": -1}]},
        {"bindings": [{"kind": "import", "name": "a", "module": 1}]},
    ],
    ids=str,
)
def test_a_malformed_definition_is_a_log_error(definition: Definition, change: dict[str, object]) -> None:
    with pytest.raises(LogError, match=r"definition in the log cannot be read .*Run the task's cell again") as caught:
        Definition.from_json(json.dumps(json.loads(definition.to_json()) | change))
    assert not isinstance(caught.value, NewerLogError)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{", "[" * 100_000, '{"format":1}', "\ud800"])
def test_what_is_no_definition_is_a_log_error(text: str) -> None:
    with pytest.raises(LogError):
        Definition.from_json(text)


def test_a_newer_format_says_so(definition: Definition) -> None:
    with pytest.raises(NewerLogError, match=r"format 2, this durable_nb reads up to 1\. Update durable_nb"):
        Definition.from_json(definition.to_json().replace('"format":1', '"format":2'))


# ---------------------------------------------------------------- when code is executed

HOSTILE = """
import sys
def mark(what):
    sys.modules["marks"].append(what)
    return lambda f: f
@mark("decorator of a helper")
def helper(x=mark("default of a helper")): pass
class Model:
    mark("class body")
    field: mark("annotation") = 1
def task(x=mark("default"), y: mark("hint") = helper, z=Model): return mark
"""


def test_only_rebuild_executes_captured_code(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[str] = []
    monkeypatch.setitem(sys.modules, "marks", marks)
    notebook.cell(HOSTILE)
    marks.clear()
    definition = Definition.from_json(notebook.capture("task").to_json())
    assert marks == []
    rebuild(definition, resolve=nothing, filename="<task>")
    assert sorted(marks) == ["annotation", "class body", "decorator of a helper", "default", "default of a helper", "hint"]


def test_constants_of_a_hostile_log_fail_with_a_sentence(definition: Definition) -> None:
    fields = json.loads(definition.to_json()) | {"lost": [], "bindings": [{"kind": "constant", "name": "N", "value": '{"$x":1}'}]}
    with pytest.raises(DeclarationError, match="binding `N` failed with ValueError"):
        rebuild(Definition.from_json(json.dumps(fields)), resolve=nothing, filename="<task>")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "eager", "soft", "late"),
    [
        ("@d\ndef f(a: A, b=B, *, c: 'C' = D) -> E: return F", "d A B D E", "C", "F"),
        ("class K(Base, metaclass=Meta):\n    x: X = Y\n    def m(self): return Z, K", "Base Meta X Y", "", "Z K"),
        ("def f():\n    x: A = B\n    def g(y: C): return D", "", "A", "B C D"),
        ("f = lambda x, y=A: B + x", "A", "", "B"),
        ("Alias = Literal['a', B] | list['C']", "Literal B list", "", ""),
        ("def f(x: Literal['a', B] | list['C']): pass", "Literal B list", "C", ""),
        ("def f(): return [x for x in A if x], {y: B for y in x}", "", "", "A B x"),
        ("class K:\n    a = a\n    b = 1\n    c = b", "", "a", ""),
        ("class K:\n    def m(self): return __secret", "", "", "_K__secret"),
    ],
)
def test_names_and_when_they_are_read(text: str, eager: str, soft: str, late: str) -> None:
    names = names_of(parse(text).body[0])
    assert (names.eager, names.soft, names.late) == (set(eager.split()), set(soft.split()), set(late.split()))


def test_with_future_annotations_none_is_read_at_once() -> None:
    names = names_of(parse("def f(a: A, b: 'B' = C): pass").body[0], future_annotations=True)
    assert (names.eager, names.soft, names.required) == ({"C"}, {"A", "B"}, {"C"})
