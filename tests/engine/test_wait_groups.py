"""`aio_wait_for`: conditions are all needed, a group of `or_` needs one, and the result tells which came."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext, SleepCondition, UserEventCondition, or_
from durable_nb.errors import DeclarationError, ExpressionError
from tests.engine.helpers import Bench, settle, view

HOUR = timedelta(hours=1)


def start(bench: Bench, durable: Durable, *conditions: Any) -> Any:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for("signal", *conditions)

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    return ref


def test_one_event(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, UserEventCondition("paid"))
    durable.event.push("paid", {"amount": 1})
    assert ref.result() == {"CREATE": {"paid": [{"amount": 1}]}}


def test_one_sleep(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, SleepCondition(HOUR))
    bench.clock.advance(HOUR)
    result = ref.result()
    assert list(result) == ["CREATE"]
    assert list(result["CREATE"]) == ["sleep:1h"]
    assert len(result["CREATE"]["sleep:1h"]) == 1


def test_conditions_are_all_needed(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, UserEventCondition("a"), UserEventCondition("b"), SleepCondition(HOUR))
    durable.event.push("b", 2)
    bench.clock.advance(HOUR)
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    assert bench.open_waits(ref) == ["a"]
    durable.event.push("a", 1)
    result = ref.result()["CREATE"]
    assert (result["a"], result["b"]) == ([1], [2])
    assert sorted(result) == ["a", "b", "sleep:1h"]


@pytest.mark.parametrize("winner", ["event", "sleep"])
def test_a_group_needs_one_and_tells_which(bench: Bench, durable: Durable, winner: str) -> None:
    ref = start(bench, durable, or_(SleepCondition(HOUR), UserEventCondition("paid", "input.amount > 5")))
    durable.event.push("paid", {"amount": 5})
    bench.clock.advance(HOUR / 2)
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    if winner == "event":
        durable.event.push("paid", {"amount": 6})
        assert ref.result() == {"CREATE": {"paid": [{"amount": 6}]}}
    else:
        bench.clock.advance(HOUR / 2)
        assert list(ref.result()["CREATE"]) == ["sleep:1h"]


def test_groups_beside_conditions(bench: Bench, durable: Durable) -> None:
    ref = start(
        bench,
        durable,
        or_(UserEventCondition("a"), UserEventCondition("b")),
        or_(UserEventCondition("c"), SleepCondition(24 * HOUR)),
        UserEventCondition("d"),
    )
    for key in ("b", "d"):
        durable.event.push(key, key)
        settle(durable)
        assert view(durable, ref).status == "RUNNING"
    durable.event.push("c", "c")
    assert ref.result() == {"CREATE": {"b": ["b"], "c": ["c"], "d": ["d"]}}


def test_one_event_may_satisfy_several_conditions(bench: Bench, durable: Durable) -> None:
    ref = start(
        bench,
        durable,
        UserEventCondition("n", "input.n > 1", readable_data_key="big"),
        UserEventCondition("n", "input.n > 0", readable_data_key="any"),
    )
    durable.event.push("n", {"n": 2})
    assert ref.result() == {"CREATE": {"big": [{"n": 2}], "any": [{"n": 2}]}}


def test_a_condition_keeps_its_first_match(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, UserEventCondition("a"), UserEventCondition("b"))
    durable.event.push("a", "first")
    durable.event.push("a", "second")
    durable.event.push("b", 0)
    assert ref.result() == {"CREATE": {"a": ["first"], "b": [0]}}


def test_a_readable_key_names_the_data(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, or_(UserEventCondition("order:paid", readable_data_key="paid"), SleepCondition(HOUR, "late")))
    durable.event.push("order:paid", 1)
    assert ref.result() == {"CREATE": {"paid": [1]}}
    ref = start(bench, durable, SleepCondition(HOUR, "late"))
    bench.clock.advance(HOUR)
    assert list(ref.result()["CREATE"]) == ["late"]


def test_two_conditions_of_one_readable_key_give_two_data(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, UserEventCondition("a", "input == 1"), UserEventCondition("a", "input == 2"))
    durable.event.push("a", 2)
    durable.event.push("a", 1)
    assert ref.result() == {"CREATE": {"a": [1, 2]}}


def test_scopes_of_conditions(bench: Bench, durable: Durable) -> None:
    ref = start(bench, durable, UserEventCondition("a", scope="s"))
    durable.event.push("a", "wrong")
    durable.event.push("a", "wrong", scope="t")
    durable.event.push("a", "right", scope="s")
    assert ref.result() == {"CREATE": {"a": ["right"]}}


def test_what_was_satisfied_survives_a_restart(bench: Bench) -> None:
    conditions = (UserEventCondition("a"), UserEventCondition("b"), SleepCondition(HOUR))
    first = bench.durable()
    ref = start(bench, first, *conditions)
    first.event.push("a", 1)
    bench.clock.advance(HOUR)
    settle(first)
    first.close()
    second = bench.durable()

    @second.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for("signal", *conditions)

    settle(second)
    assert bench.open_waits(ref) == ["b"]
    second.event.push("b", 2)
    result = second.runs.get_run_ref(ref.workflow_run_id).result()["CREATE"]
    assert (result["a"], result["b"]) == ([1], [2])
    assert "sleep:1h" in result


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ((), DeclarationError),
        (("paid",), DeclarationError),
        ((UserEventCondition("a", "input ="),), ExpressionError),
        ((or_(UserEventCondition("a"), UserEventCondition("b", "((")),), ExpressionError),
        ((SleepCondition(timedelta(seconds=-1)),), DeclarationError),
    ],
)
def test_a_condition_that_cannot_work_is_refused_when_asked(
    bench: Bench, durable: Durable, conditions: tuple[Any, ...], error: type[Exception]
) -> None:
    @durable.durable_task()
    async def careless(input: Any, ctx: DurableContext) -> str:
        with pytest.raises(error):
            await ctx.aio_wait_for("signal", *conditions)
        return "refused"

    ref = careless.run(wait_for_result=False)
    assert ref.result() == "refused"
    assert bench.asks(ref) == []
