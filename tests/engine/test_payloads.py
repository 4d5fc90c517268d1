"""Inputs and outputs: validated before anything is written, given as the annotated types."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import typing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from durable_nb import Context, Durable, DurableContext, EmptyModel, TaskRunError
from durable_nb.errors import DeclarationError, InputValidationError
from tests.engine.helpers import Bench


class Order(BaseModel):
    customer: str
    amount: float = 1.0


@dataclass
class Point:
    x: int
    y: int


class Row(TypedDict):
    name: str
    count: int


class PlainRow(typing.TypedDict):
    name: str


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize("given", [Order(customer="ada"), {"customer": "ada"}])
def test_a_model_input_is_given_as_the_model(durable: Durable, given: object) -> None:
    seen: list[object] = []

    @durable.task()
    def take(input: Order, ctx: Context) -> None:
        seen.append(input)

    take.run(given)
    assert seen == [Order(customer="ada", amount=1.0)]


def test_a_dataclass_input_is_given_as_the_dataclass(durable: Durable) -> None:
    seen: list[object] = []

    @durable.task()
    def take(input: Point, ctx: Context) -> None:
        seen.append(input)

    take.run(Point(1, 2))
    take.run({"x": 1, "y": 2})
    assert seen == [Point(1, 2), Point(1, 2)]


def test_a_typed_dict_input_is_checked(durable: Durable) -> None:
    @durable.task()
    def take(input: Row, ctx: Context) -> int:
        return input["count"]

    assert take.run({"name": "a", "count": 3}) == 3
    with pytest.raises(InputValidationError, match="count"):
        take.run({"name": "a"})


def test_the_standard_librarys_typed_dict_works_or_is_refused_with_a_sentence(durable: Durable) -> None:
    def take(input: PlainRow, ctx: Context) -> str:
        return input["name"]

    if sys.version_info < (3, 12):  # where pydantic cannot read it
        with pytest.raises(DeclarationError, match="typing_extensions"):
            durable.task()(take)
    else:
        assert durable.task()(take).run({"name": "a"}) == "a"


def test_a_durable_task_validates_its_input_too(durable: Durable) -> None:
    @durable.durable_task()
    async def take(input: Order, ctx: DurableContext) -> str:
        assert ctx.input == input
        return input.customer

    assert take.run({"customer": "ada"}) == "ada"
    with pytest.raises(InputValidationError, match="customer"):
        take.run({})


def test_an_empty_model_needs_no_input(durable: Durable) -> None:
    @durable.task()
    def take(input: EmptyModel, ctx: Context) -> str:
        return type(input).__name__

    assert take.run() == "EmptyModel"
    assert take.run(EmptyModel()) == "EmptyModel"


@pytest.mark.parametrize("value", [None, 0, 1.5, "text", "ünï\u2028", [1, [2]], {"a": {"b": None}}, True, 2**60])
def test_json_values_come_back_as_they_went(durable: Durable, value: object) -> None:
    @durable.task()
    def same(input: Any, ctx: Context) -> Any:
        return input

    assert same.run(value) == value


def test_the_input_validator_option_is_the_annotations_equal(durable: Durable) -> None:
    @durable.task(input_validator=Order)
    def take(input, ctx):  # type: ignore[no-untyped-def]
        return input.customer

    assert take.run({"customer": "ada"}) == "ada"
    with pytest.raises(InputValidationError, match="customer"):
        take.run({})


@pytest.mark.parametrize("bad", [{}, {"customer": 3}, {"customer": "ada", "amount": "much"}, None, 5, [1]])
def test_a_bad_input_writes_nothing(bench: Bench, durable: Durable, bad: object) -> None:
    calls: list[object] = []

    @durable.task()
    def take(input: Order, ctx: Context) -> None:
        calls.append(input)

    with pytest.raises(InputValidationError, match="take"):
        take.run(bad)
    with pytest.raises(InputValidationError, match="take"):
        take.run(bad, wait_for_result=False)
    assert bench.count("run") == bench.count("journal") == 0
    assert calls == []


def test_an_input_that_json_cannot_hold_writes_nothing(bench: Bench, durable: Durable) -> None:
    @durable.task()
    def take(input: Any, ctx: Context) -> None: ...

    for bad in (object(), threading.Lock(), {"deep": [object()]}):
        with pytest.raises(InputValidationError, match="take"):
            take.run(bad)
    assert bench.count("run") == 0


def test_one_bad_item_of_a_bulk_call_writes_none(bench: Bench, durable: Durable) -> None:
    @durable.task()
    def take(input: Point, ctx: Context) -> None: ...

    items = [take.create_bulk_run_item(input=value) for value in ({"x": 1, "y": 2}, {"x": "left", "y": 2}, {"x": 3, "y": 4})]
    with pytest.raises(InputValidationError, match="x"):
        take.run_many(items)
    assert bench.count("run") == 0


def test_metadata_that_json_cannot_hold_writes_nothing(bench: Bench, durable: Durable) -> None:
    @durable.task()
    def take(input: Any, ctx: Context) -> None: ...

    with pytest.raises(InputValidationError, match="metadata"):
        take.run(1, additional_metadata={"at": object()})
    assert bench.count("run") == 0


class Squared(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Tagged(BaseModel):
    tags: set[str] = Field(default_factory=set)
    groups: list[frozenset[str]] = []


def test_a_model_with_a_computed_field_may_forbid_others(durable: Durable) -> None:
    @durable.task()
    async def grow(input: Squared, ctx: Context) -> Squared:
        return Squared(side=input.side + 1)

    @durable.durable_task()
    async def orchestrate(input: Squared, ctx: DurableContext) -> int:
        memo = await ctx.aio_memo(lambda: Squared(side=5), Squared)
        child = await grow.aio_run(input)
        assert isinstance(memo, Squared)
        return int(child.area + memo.area)

    assert grow.run(Squared(side=2)) == Squared(side=3)
    assert orchestrate.run(Squared(side=2)) == 9 + 25


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_sets_are_written_in_the_same_order_by_every_process(tmp_path: Path, seed: str) -> None:
    code = (
        "from tests.engine.test_payloads import *\n"
        "from durable_nb.tasks.payload import adapter_for, encode, encode_input\n"
        "words = {'d', 'a', 'c', 'b', 'e'}\n"
        "model = Tagged(tags=words, groups=[frozenset(words)])\n"
        "print(encode({'x': [words, frozenset({(1, 'b'), (1, 'a')})]}, of=''))\n"
        "print(encode_input(model, adapter_for(Tagged, of=''), of=''))\n"
        "print(encode_input([words], adapter_for(list[set[str]], of=''), of=''))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    in_order = '["a","b","c","d","e"]'
    tagged = f'{{"tags":{in_order},"groups":[{in_order}]}}'
    assert done.stdout.splitlines() == [
        f'{{"x":[{in_order},[[1,"a"],[1,"b"]]]}}',
        str((tagged, tagged)),
        str((f"[{in_order}]", f"[{in_order}]")),
    ]


def test_ordering_a_models_sets_leaves_the_model_as_it_is(durable: Durable) -> None:
    @durable.task()
    async def tags(input: Tagged, ctx: Context) -> list[str]:
        return sorted(input.tags)

    model = Tagged(tags={"b", "a"})
    assert tags.run(model) == ["a", "b"]
    assert type(model.tags) is set
    assert model.model_fields_set == {"tags"}


@pytest.mark.parametrize("validator", [Order, Point, Row, list[int], int | None, datetime])
def test_any_type_may_be_the_input_validator(bench: Bench, durable: Durable, validator: Any) -> None:
    @durable.task(input_validator=validator)
    async def take(input, ctx):  # type: ignore[no-untyped-def]
        return None

    take.run(
        {Order: {"customer": "a"}, Point: {"x": 1, "y": 2}, Row: {"name": "a", "count": 1}, datetime: "2026-01-01T00:00:00Z"}.get(
            validator, [1] if validator == list[int] else None
        )
    )
    with pytest.raises(InputValidationError, match="take"):
        take.run({"wrong": object})
    assert bench.count("run") == 1


# ---------------------------------------------------------------- outputs


def test_outputs_are_given_as_the_annotated_type(durable: Durable) -> None:
    @durable.task()
    def model(input: Any, ctx: Context) -> Order:
        return Order(customer="ada")

    @durable.task()
    def point(input: Any, ctx: Context) -> Point:
        return Point(1, 2)

    @durable.task()
    async def row(input: Any, ctx: Context) -> Row:
        return {"name": "a", "count": 1}

    @durable.durable_task()
    async def when(input: Any, ctx: DurableContext) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    assert model.run() == Order(customer="ada")
    assert point.run() == Point(1, 2)
    assert row.run() == {"name": "a", "count": 1}
    assert when.run() == datetime(2026, 1, 2, tzinfo=UTC)


def test_no_output_is_none(durable: Durable) -> None:
    @durable.task()
    def nothing(input: Any, ctx: Context) -> None: ...

    assert nothing.run() is None


@pytest.mark.parametrize("value", [object(), threading.Lock(), print, {"deep": [object()]}])
@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_an_illegal_output_names_task_and_type(durable: Durable, value: object, kind: str) -> None:
    @getattr(durable, kind)(name="strange")  # type: ignore[untyped-decorator]
    async def function(input: Any, ctx: Context) -> Any:
        return value

    with pytest.raises(TaskRunError, match="strange") as caught:
        function.run()
    assert caught.value.exc_type == "IllegalTaskOutputError"
    offender = object() if isinstance(value, dict) else value
    assert type(offender).__name__ in caught.value.exc


def test_a_large_payload_survives(durable: Durable) -> None:
    @durable.task()
    def same(input: Any, ctx: Context) -> Any:
        return input

    text = "ä€" * 500_000
    assert same.run(text) == text
