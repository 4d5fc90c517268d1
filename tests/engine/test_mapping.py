"""Mapping: a child for each item, so many at once, begun in the order of the items."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunCancelledError, TaskRunError
from durable_nb.errors import ArgumentError, FailedTaskRunExceptionGroup, InputValidationError
from tests.engine.helpers import Bench, wait_until
from tests.engine.story import LEAVINGS, Story


def declare(durable: Durable) -> None:
    @durable.durable_task()
    async def gate(input: str, ctx: DurableContext) -> str:
        await ctx.aio_wait_for_event(input)
        if input.startswith("bad"):
            raise OSError(input)
        return input.upper()

    @durable.task()
    async def double(input: int, ctx: Context) -> int:
        if input < 0:
            raise OSError(str(input))
        return 2 * input


def mapping(bench: Bench, task: str, items: list[Any], **options: Any) -> Story:
    async def body(_: Any, ctx: DurableContext) -> Any:
        try:
            results = await ctx.aio_map(ctx._engine.registry[task], items, **options)
        except (TaskRunError, FailedTaskRunExceptionGroup) as error:
            results = [f"{type(error).__name__}: {error}"]
        await ctx.aio_wait_for_event("end")
        return [f"{type(one).__name__}" if isinstance(one, Exception) else one for one in results]

    return Story(bench, body, declare=declare)


def children(bench: Bench) -> list[str]:
    """Give the inputs of the children that were begun, in order."""
    return [value.strip('"') for (value,) in bench.rows("SELECT input FROM v_runs WHERE task = 'gate' ORDER BY number")]


def statuses(bench: Bench) -> dict[str, str]:
    """Give what became of the children, by input, when the cancelled ones have had their time to end."""
    going_on = "SELECT count(*) FROM v_runs WHERE task = 'gate' AND status = 'RUNNING' AND cancelled_at IS NOT NULL"
    wait_until(lambda: bench.rows(going_on) == [(0,)], what="the end of the cancelled children")
    return {name.strip('"'): status for name, status in bench.rows("SELECT input, status FROM v_runs WHERE task = 'gate'")}


def wait_for(bench: Bench, names: list[str]) -> None:
    """Wait until exactly these children were begun, and wait for their event."""
    wait_until(lambda: children(bench) == names, what=f"{names}, but there are {children(bench)}")
    pending = "SELECT count(*) FROM v_runs WHERE task = 'gate' AND id NOT IN (SELECT run_id FROM v_checkpoints)"
    wait_until(lambda: bench.rows(pending) == [(0,)], what="the children's waits")


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_children_are_begun_as_others_end_and_results_are_in_the_order_of_items(bench: Bench, how: str) -> None:
    story = mapping(bench, "gate", list("abcde"), max_concurrency=2)
    wait_for(bench, ["a", "b"])
    for ended, begun in (("b", "abc"), ("c", "abcd"), ("a", "abcde")):
        story.leave(how)
        story.push(ended)
        wait_for(bench, list(begun))
    story.push("e")
    story.push("d")
    story.asked(6).leave(how)
    story.push("end")
    assert story.result() == list("ABCDE")
    assert [ask[:8] for _, _, ask in bench.asks(story.ref)][:5] == [f'gate "{name}"' for name in "abcde"]


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_it_stops_when_enough_have_succeeded_and_gives_up_the_rest(bench: Bench, how: str) -> None:
    story = mapping(bench, "gate", ["a", "bad", "c", "d", "e"], max_concurrency=3, min_successful=2)
    wait_for(bench, ["a", "bad", "c"])
    story.push("bad")
    wait_for(bench, ["a", "bad", "c", "d"])
    story.leave(how)
    story.push("d")
    wait_for(bench, ["a", "bad", "c", "d", "e"])
    story.push("c")
    story.asked(6).leave(how)
    story.asked(6)
    assert statuses(bench) == {"a": "CANCELLED", "bad": "FAILED", "c": "COMPLETED", "d": "COMPLETED", "e": "CANCELLED"}
    assert bench.rows("SELECT node FROM v_checkpoints WHERE task = 'story' AND abandoned ORDER BY node") == [(1,), (5,)]
    story.push("end")
    assert story.result() == ["C", "D"]


@pytest.mark.parametrize("how", ["", "close"])
def test_with_return_exceptions_every_item_has_an_entry(bench: Bench, how: str) -> None:
    story = mapping(bench, "gate", ["a", "bad", "c", "d"], max_concurrency=2, min_successful=1, return_exceptions=True)
    wait_for(bench, ["a", "bad"])
    story.push("bad")
    wait_for(bench, ["a", "bad", "c"])
    story.push("c")
    story.asked(4).leave(how)
    story.push("end")
    assert story.result() == [RunCancelledError.__name__, TaskRunError.__name__, "C", RunCancelledError.__name__]


def test_after_a_failure_no_child_is_begun_and_those_that_run_are_waited_for(bench: Bench) -> None:
    story = mapping(bench, "gate", ["bad", "b", "c"], max_concurrency=2)
    wait_for(bench, ["bad", "b"])
    story.push("bad")
    story.asked(2)
    story.push("b")
    story.asked(3)
    assert children(bench) == ["bad", "b"]
    story.push("end")
    assert story.result() == ["TaskRunError: OSError: bad"]


def test_too_many_failures_for_what_is_needed_are_one_group(bench: Bench) -> None:
    story = mapping(bench, "double", [1, -1, -2, 3, 4], max_concurrency=1, min_successful=4)
    story.asked(4)
    story.push("end")
    [said] = story.result()
    assert "2 of 3 runs of double did not complete, where 4 of 5 had to succeed" in said


def test_a_retry_runs_what_failed_again_and_nothing_else(bench: Bench) -> None:
    ran: list[int] = []

    def declare_flaky(durable: Durable) -> None:
        @durable.task()
        async def flaky(input: int, ctx: Context) -> int:
            ran.append(input)
            if input == 3 and ran.count(3) == 1:
                raise OSError("once")
            return input

    async def body(_: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_map(ctx._engine.registry["flaky"], range(6), max_concurrency=2)

    story = Story(bench, body, declare=declare_flaky, retries=1)
    assert story.result() == list(range(6))
    assert sorted(ran) == [0, 1, 2, 3, 3, 4, 5]


def test_no_items_and_none_needed_ask_nothing(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        double = ctx._engine.registry["double"]
        return [await ctx.aio_map(double, []), await ctx.aio_map(double, [1, 2], min_successful=0)]

    story = Story(bench, body, declare=declare)
    assert story.result() == [[], []]
    assert bench.asks(story.ref) == []


def test_bulk_items_bring_their_child_keys_and_metadata(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        double = ctx._engine.registry["double"]
        items = [double.create_bulk_run_item(input=n, key="same", additional_metadata={"n": n}) for n in (1, 1)]
        return await ctx.aio_map(double, items, max_concurrency=1)

    story = Story(bench, body, declare=declare)
    assert story.result() == [2, 2]
    assert bench.rows("SELECT metadata FROM run WHERE task = 'double'") == [('{"n":1}',)]


def test_an_item_that_does_not_fit_is_refused_before_any_child_is_begun(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(InputValidationError, match="the input of task 'double' does not fit"):
            await ctx.aio_map(ctx._engine.registry["double"], [1, 2, "many"])
        return "refused"

    story = Story(bench, body, declare=declare)
    assert story.result() == "refused"
    assert bench.rows("SELECT count(*) FROM run WHERE task = 'double'") == [(0,)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_concurrency": 0}, "max_concurrency=0"),
        ({"max_concurrency": 1.5}, r"max_concurrency=1\.5"),
        ({"min_successful": 4}, "from 0 to the number of items, 3"),
        ({"min_successful": -1}, "min_successful=-1"),
    ],
)
def test_an_option_that_cannot_work_is_refused(bench: Bench, options: dict[str, Any], words: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(ArgumentError, match=words):
            await ctx.aio_map(ctx._engine.registry["double"], [1, 2, 3], **options)
        return "refused"

    story = Story(bench, body, declare=declare)
    assert story.result() == "refused"


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_map_that_is_given_up_waits_for_none_of_its_children(bench: Bench, how: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        gate = ctx._engine.registry["gate"]
        items = [gate.create_bulk_run_item(input=name) for name in "xy"]
        won = await ctx.aio_select(
            map=ctx.aio_map(gate, list("abcd"), max_concurrency=3),
            bulk=gate.aio_run_many(items),
            win=ctx.aio_wait_for_event("win"),
        )
        await ctx.aio_wait_for_event("end")
        return won.name

    story = Story(bench, body, declare=declare)
    wait_for(bench, list("abcxy"))
    story.leave(how)
    story.push("win")
    story.asked(7).leave(how)
    story.asked(7)
    given_up = bench.rows("SELECT node FROM v_checkpoints WHERE task = 'story' AND abandoned ORDER BY node")
    assert given_up == [(1,), (2,), (3,), (4,), (5,)]
    assert statuses(bench) == dict.fromkeys("abcxy", "CANCELLED")
    story.push("end")
    assert story.result() == "win"


def test_maps_side_by_side_replay_the_same(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        double = ctx._engine.registry["double"]
        both = await asyncio.gather(
            ctx.aio_map(double, range(20), max_concurrency=3), ctx.aio_map(double, range(20, 40), max_concurrency=4)
        )
        await ctx.aio_wait_for_event("end")
        return both

    story = Story(bench, body, declare=declare)
    wait_until(lambda: bench.open_waits(story.ref) == ["end"])
    story.asked(41).leave("close")
    story.push("end")
    assert story.result() == [[2 * n for n in range(20)], [2 * n for n in range(20, 40)]]


@pytest.mark.slow
def test_two_thousand_items_take_as_much_work_each_as_two_hundred(bench: Bench) -> None:
    """Counted in what the engine's cursor and the fan do for each item, not in time."""
    import sys

    def calls(number: int) -> int:
        counted = [0]

        def count(frame: Any, event: str, _: Any) -> None:
            counted[0] += event == "call" and "durable_nb/engine" in frame.f_code.co_filename

        async def body(_: Any, ctx: DurableContext) -> int:
            sys.setprofile(count)
            try:
                return len(await ctx.aio_map(ctx._engine.registry["double"], range(number), max_concurrency=50))
            finally:
                sys.setprofile(None)

        story = Story(bench, body, declare=declare)
        wait_until(lambda: story.view.is_ended, timeout=120)
        assert story.result() == number
        story.durable.close()
        return counted[0]

    few, many = calls(200), calls(2000)
    assert many < few * 10 * 1.6
