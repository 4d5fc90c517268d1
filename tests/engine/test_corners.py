"""Corners of the contract at which what works one by one could meet badly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunCancelledError
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import DurableError
from durable_nb.log import waits
from durable_nb.log.records import NewEvent
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until


def test_queueing_beside_an_engine_that_does_not_serve_the_task_does_not_count(bench: Bench) -> None:
    """As the schedule_timeout has it: only an engine able to run the task makes the time count."""
    gate, ran = threading.Event(), list[str]()

    def declare(durable: Durable) -> Durable:
        @durable.task(schedule_timeout=30)
        async def hold(input: str, ctx: Context) -> str:
            ran.append(input)
            await opened(gate)
            return input

        return durable

    first = declare(bench.durable(slots=Slots(loop=1)))
    first.tasks["hold"].run("first", wait_for_result=False)
    wait_until(lambda: ran)
    second = first.tasks["hold"].run("second", wait_for_result=False)
    first.close()
    other = bench.durable()
    for _ in range(5):
        settle(other)
        bench.clock.advance(20)
    settle(other)
    assert view(other, second).status == "QUEUED"
    gate.set()
    assert declare(bench.durable(slots=Slots(loop=1))).runs.get_result(second) == "second"


def test_the_more_urgent_run_is_next_and_of_equals_the_older(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(loop=1))
    ran, gate = list[str](), threading.Event()

    @durable.task(default_priority=2)
    async def work(input: str, ctx: Context) -> None:
        ran.append(input)
        if input == "first":
            await opened(gate)

    refs = [work.run("first", wait_for_result=False)]
    wait_until(lambda: ran)
    for name, priority in (("low", 1), ("default", None), ("high", 3), ("low too", 1), ("high too", 3)):
        refs.append(work.run(name, wait_for_result=False, priority=priority))
    gate.set()
    for ref in refs:
        ref.result()
    assert ran == ["first", "high", "high too", "default", "low", "low too"]


@pytest.mark.parametrize("lane", ["thread", "loop"])
def test_who_listens_to_a_child_lends_it_the_slot(bench: Bench, lane: str) -> None:
    durable = bench.durable(slots=Slots(loop=1, thread=1))

    def talk(ctx: Context) -> None:
        for text in "abc":
            ctx.put_stream(text)

    if lane == "thread":

        @durable.task(name="child")
        def child(input: Any, ctx: Context) -> None:
            talk(ctx)

        @durable.task(name="parent")
        def parent(input: Any, ctx: Context) -> str:
            return "".join(map(str, child.run(wait_for_result=False).stream()))
    else:

        @durable.task(name="child")
        async def child_on_loop(input: Any, ctx: Context) -> None:
            talk(ctx)

        @durable.task(name="parent")
        async def parent_on_loop(input: Any, ctx: Context) -> str:
            ref = await child_on_loop.aio_run(wait_for_result=False)
            return "".join([str(chunk) async for chunk in ref.stream()])

    ref = durable.tasks["parent"].run(wait_for_result=False)
    reach(durable, ref, lambda run: run.is_ended)
    assert ref.result() == "abc"


def test_one_key_twice_in_a_bulk_call_is_one_child(durable: Durable) -> None:
    ran: list[int] = []

    @durable.task()
    async def child(input: int, ctx: Context) -> int:
        ran.append(input)
        return input

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> Any:
        items = [child.create_bulk_run_item(input=number, key=key) for number, key in ((1, "k"), (2, "b"), (1, "k"))]
        return await child.aio_run_many(items)

    assert parent.run() == [1, 2, 1]
    assert sorted(ran) == [1, 2]


def test_a_cancelled_run_raises_the_same_from_every_form(durable: Durable) -> None:
    @durable.task()
    async def own(input: Any, ctx: Context) -> None:
        await ctx.aio_cancel()

    many = [own.create_bulk_run_item()]
    ref = own.run(wait_for_result=False)
    forms: list[Callable[[], Any]] = [
        own.run,
        lambda: asyncio.run(own.aio_run()),
        ref.result,
        lambda: asyncio.run(ref.aio_result()),
        lambda: own.run_many(many),
        lambda: durable.runs.get_result(ref),
    ]
    for form in forms:
        with pytest.raises(RunCancelledError):
            form()
    assert [type(result) for result in own.run_many(many, return_exceptions=True)] == [RunCancelledError]

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> int:
        for make in (own.aio_run, lambda: own.aio_run_many(many)):
            with pytest.raises(RunCancelledError):
                await make()
        [result] = await own.aio_run_many(many, return_exceptions=True)
        return isinstance(result, RunCancelledError)

    assert parent.run() == 1


def test_a_memo_that_was_in_flight_at_a_crash_leaves_a_gap_that_is_filled(bench: Bench) -> None:
    gate, said = threading.Event(), list[str]()

    def declare(durable: Durable, *, is_held: bool) -> Any:
        async def slow() -> str:
            said.append("slow")
            if is_held:
                await opened(gate)
            return "slow"

        def quick() -> str:
            said.append("quick")
            return "quick"

        @durable.durable_task()
        async def work(input: Any, ctx: DurableContext) -> list[Any]:
            return list(await asyncio.gather(ctx.aio_memo(slow), ctx.aio_memo(quick), ctx.aio_wait_for_event("go")))

        return work

    ref = declare(bench.durable(), is_held=True).run(wait_for_result=False)
    wait_until(lambda: [node for _, node, _ in bench.asks(ref)] == [2, 3])
    bench.crash()
    gate.set()
    second = bench.durable()
    declare(second, is_held=False)
    second.open()
    wait_until(lambda: [node for _, node, _ in bench.asks(ref)] == [1, 2, 3])
    second.event.push("go", 1)
    assert second.runs.get_result(ref) == ["slow", "quick", 1]
    assert said == ["slow", "quick", "slow"]


def test_a_sync_form_in_a_thread_of_a_durable_task_is_a_checkpoint(bench: Bench, durable: Durable) -> None:
    ran: list[int] = []

    @durable.task()
    async def child(input: int, ctx: Context) -> int:
        ran.append(input)
        return input

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        return [await asyncio.to_thread(child.run, 5), await ctx.aio_wait_for_event("go")]

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    wait_until(lambda: durable.runs.evict(ref))
    durable.event.push("go", 1)
    assert ref.result() == [5, 1]
    assert ran == [5]


def test_a_reset_asks_people_again_what_lies_after_the_cut_and_nothing_before(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def ask(input: Any, ctx: DurableContext) -> list[int]:
        return [await ctx.aio_ask(question, int) for question in ("one?", "two?", "three?")]

    def asked(question: str) -> str:
        wait_until(lambda: [item.question for item in durable.inbox.list()] == [question], what=question)
        return str(durable.inbox.list()[0].id)

    ref = ask.run(wait_for_result=False)
    durable.inbox.answer(asked("one?"), 1)
    durable.inbox.answer(asked("two?"), 2)
    former = asked("three?")
    durable.runs.reset_durable_task(ref, 2)
    again = asked("two?")
    with pytest.raises(DurableError):
        durable.inbox.answer(former, 3)
    durable.inbox.answer(again, 22)
    durable.inbox.answer(asked("three?"), 33)
    assert ref.result() == [1, 22, 33]


def test_outcomes_that_two_engines_wrote_are_delivered_in_one_order_live_and_replayed(bench: Bench) -> None:
    names = [f"e{number}" for number in range(24)]

    def declare(durable: Durable, order: list[str]) -> Any:
        @durable.durable_task()
        async def hear(input: Any, ctx: DurableContext) -> list[str]:
            async def one(name: str) -> None:
                await ctx.aio_wait_for_event(name)
                order.append(name)
                await ctx.aio_now()

            await asyncio.gather(*map(one, names))
            await ctx.aio_wait_for_event("end")
            return order

        return hear

    live, again = list[str](), list[str]()
    owner, other = bench.durable(), bench.durable()
    ref = declare(owner, live).run(wait_for_result=False)
    bench.asked(ref, len(names))

    def push(durable: Durable, keys: list[str]) -> None:
        for key in keys:
            durable.event.push(key)

    pushing = [threading.Thread(target=push, args=(durable, names[which::2])) for which, durable in enumerate((owner, other))]
    for thread in pushing:
        thread.start()
    for thread in pushing:
        thread.join()
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    order = [f"e{node - 1}" for (node,) in bench.rows("SELECT node FROM checkpoint WHERE node <= 24 ORDER BY seq")]
    assert live == order
    bench.crash()
    second = bench.durable()
    declare(second, again)
    second.event.push("end")
    assert second.runs.get_result(ref) == order


def test_an_event_that_was_accepted_before_a_wait_does_not_reach_it_however_late_it_is_matched(
    bench: Bench, durable: Durable
) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    engine = durable.open().engine
    first = wait.run(wait_for_result=False)
    bench.asked(first, 1)
    early = NewEvent(id="E1", key="go", payload='"early"', scope=None, metadata="{}", priority=None)
    durable.call(lambda: engine.writer.submit(lambda connection: waits.accept(connection, early, at=bench.clock.now())), aio="")
    assert bench.rows("SELECT matched FROM event") == [(0,)]
    second = wait.run(wait_for_result=False)
    bench.asked(second, 1)
    durable.event.push("go", "late")
    assert (first.result(), second.result()) == ("early", "late")


def test_a_reset_cancels_children_beyond_it_that_nobody_waits_for_too(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("never")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_now()
        await child.aio_run(wait_for_result=False)
        await ctx.aio_wait_for_event("go")

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 3)
    durable.runs.reset_durable_task(ref, 1)
    wait_until(lambda: sorted(run.status for run in durable.runs.list(parent=ref)) == ["CANCELLED", "RUNNING"])
