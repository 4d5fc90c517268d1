"""The forms of answers judge as pydantic does, and as the kernel does by the JSON Schema alone: one corpus through all three."""

from __future__ import annotations

import enum
import json
import shutil
import subprocess
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from durable_nb.tasks.schemas import misfit

NODE = shutil.which("node")
AGREE = Path(__file__).parents[1] / "web" / "agree.mjs"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Bounds(BaseModel):
    share: float = Field(ge=0, le=1)
    count: int = Field(gt=0, lt=10, multiple_of=3)
    step: float = Field(0.3, multiple_of=0.1)
    code: str = Field("AB-1", pattern=r"^[A-Z]{2}-\d+$", max_length=8)
    name: str = Field("Ada", min_length=2)


class Line(BaseModel):
    text: str
    amount: Decimal = Decimal(0)


class Order(BaseModel):
    """An order."""

    model_config = ConfigDict(extra="forbid")
    lines: list[Line] = Field(min_length=1, max_length=3)
    by: date
    note: str | None = None
    colour: Colour = Colour.RED


class Node(BaseModel):
    name: str
    left: Node | None = None
    right: Node | None = None
    more: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = []


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Loose(TypedDict):
    here: int
    perhaps: NotRequired[bool]


LARGE = 2**53 - 1
UUIDS = "0190c2a1-5b1c-7d3e-8f00-0123456789ab"
# A type, answers that fit, answers that do not with the paths of what is wrong.
CORPUS: dict[str, tuple[Any, list[Any], list[tuple[Any, list[list[str | int]]]]]] = {
    "bool": (bool, [True, False], [(None, [[]]), ("perhaps", [[]]), ([], [[]])]),
    "int": (int, [0, -3, LARGE], [("x", [[]]), (1.5, [[]]), (None, [[]])]),
    "float": (float, [0, 1.5, -2e300], [("x", [[]]), ({}, [[]])]),
    "text": (str, ["a", "ß\n<b>", "\u202e"], [(3, [[]]), (None, [[]])]),
    "exact text": (Annotated[str, Field(min_length=2, max_length=3)], ["ab", "😀😀😀"], [("a", [[]]), ("😀😀😀😀", [[]])]),
    "literal": (Literal["yes", "no", 3], ["yes", 3], [("maybe", [[]]), (4, [[]])]),
    "enum": (Colour, ["red"], [("green", [[]]), (None, [[]])]),
    "one word": (Literal["agreed"], ["agreed"], [("no", [[]])]),
    "optional": (int | None, [None, 4], [("x", [[]])]),
    "number or text": (int | str, [3, "three"], [([], [[]])]),
    "whole or not": (int | float, [3, 3.5], [("x", [[]])]),
    "date": (date, ["2026-02-28", "2024-02-29"], [("2026-02-30", [[]]), ("soon", [[]])]),
    "datetime": (datetime, ["2026-02-28T09:30:00Z", "2026-02-28T09:30:00.5+01:00", "2026-02-28T09:30:00"], [("soon", [[]])]),
    "time": (time, ["09:30:00", "23:59:59.25"], [("24:00:00", [[]]), ("soon", [[]])]),
    "duration": (timedelta, ["P1DT2H30M", "PT0.5S"], [("soon", [[]])]),
    "uuid": (UUID, [UUIDS], [("0190", [[]])]),
    "decimal": (Decimal, ["1.10", 0], [([], [[]])]),
    "bounded decimal": (Annotated[Decimal, Field(ge=0)], [1.5, "0"], [(-1, [[]])]),
    "list": (
        Annotated[list[int], Field(min_length=1, max_length=2)],
        [[1], [1, 2]],
        [([], [[]]), ([1, 2, 3], [[]]), ([1, "x"], [[1]])],
    ),
    "tuple": (tuple[int, str], [[1, "a"]], [(["x", "a"], [[0]]), ([1], [[]])]),
    "tuple of many": (tuple[int, ...], [[], [1, 2]], [([None], [[0]])]),
    "dict": (dict[str, int], [{}, {"a": 1, "__proto__": 2}], [({"a": "x"}, [["a"]]), ([], [[]])]),
    "bounds": (
        Bounds,
        [{"share": 0.5, "count": 3, "step": 0.7, "code": "XY-12", "name": "Bo"}],
        [
            (
                {"share": 1.5, "count": 10, "step": 0.25, "code": "xy", "name": "B"},
                [["share"], ["count"], ["step"], ["code"], ["name"]],
            ),
            ({"share": 0, "count": 0}, [["count"]]),
            ({"count": 3}, [["share"]]),
        ],
    ),
    "nested": (
        Order,
        [{"lines": [{"text": "a", "amount": "1.5"}], "by": "2026-01-31", "note": None, "colour": "blue"}],
        [
            ({"lines": [], "by": "2026-01-31"}, [["lines"]]),
            ({"lines": [{"text": "a"}, {"text": 3}], "by": "x", "colour": "green"}, [["lines", 1, "text"], ["by"], ["colour"]]),
            ({"lines": [{"text": "a"}], "by": "2026-01-31", "else": 1}, [["else"]]),
        ],
    ),
    "recursive": (
        Node,
        [{"name": "a", "left": {"name": "b", "left": None, "right": None, "more": []}, "right": None, "more": []}],
        [({"name": "a", "more": [{"name": 3}]}, [["more", 0, "name"]])],
    ),
    "discriminated": (
        Owner,
        [{"pet": {"kind": "cat", "lives": 3}}, {"pet": {"kind": "dog", "tricks": ["roll"]}}],
        [
            ({"pet": {"kind": "dog", "tricks": 3}}, [["pet", "tricks"]]),
            ({"pet": {"kind": "cat", "lives": "x"}}, [["pet", "lives"]]),
        ],
    ),
    "either model": (Cat | Dog, [{"kind": "dog", "tricks": []}], []),
    "anything": (dict[str, Any], [{"a": [1, {"b": None}]}], []),
    "typed dict": (Loose, [{"here": 1}, {"here": 1, "perhaps": False}], [({"perhaps": True}, [["here"]])]),
    "set": (set[int], [[1, 2]], []),
}
SCHEMAS = {name: TypeAdapter(case[0]).json_schema() for name, case in CORPUS.items()}


@pytest.fixture(scope="module")
def judged() -> dict[str, list[dict[str, Any]]]:
    """What the front-end says of every answer of the corpus: those that fit first."""
    if NODE is None:
        pytest.skip("node is not installed; CI installs it")
    cases = [
        {"schema": SCHEMAS[name], "values": [*good, *(value for value, _ in bad)]} for name, (_, good, bad) in CORPUS.items()
    ]
    done = subprocess.run([NODE, AGREE], input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(zip(CORPUS, json.loads(done.stdout), strict=True))


def paths(locs: list[list[str | int]]) -> list[str]:
    return sorted({json.dumps(loc) for loc in locs})


@pytest.mark.parametrize("name", CORPUS)
def test_page_kernel_and_pydantic_agree_on_every_answer(name: str, judged: dict[str, list[dict[str, Any]]]) -> None:
    annotation, good, bad = CORPUS[name]
    adapter, schema = TypeAdapter(annotation), json.dumps(SCHEMAS[name])
    for value, said in zip(good, judged[name], strict=False):
        adapter.validate_json(json.dumps(value))
        assert misfit(value, schema) is None
        assert said["locs"] == [], value
    for (value, locs), said in zip(bad, judged[name][len(good) :], strict=True):
        with pytest.raises(ValidationError) as refused:
            adapter.validate_json(json.dumps(value))
        assert misfit(value, schema) is not None
        assert paths(said["locs"]) == paths(locs), value
        assert {loc[0] if loc else None for loc in locs} >= {
            error["loc"][0] if locs != [[]] else None for error in refused.value.errors()
        }


@pytest.mark.parametrize("name", CORPUS)
def test_a_form_gives_back_the_answer_that_it_was_filled_with(name: str, judged: dict[str, list[dict[str, Any]]]) -> None:
    adapter = TypeAdapter(CORPUS[name][0])
    for value, said in zip(CORPUS[name][1], judged[name], strict=False):
        assert said["of"] == [], value
        assert adapter.validate_json(json.dumps(said["again"])) == adapter.validate_json(json.dumps(value))
