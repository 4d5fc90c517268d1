"""Cancel: a fact with a place in the run's order, the same live, after eviction, after a crash and from another process."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunCancelledError, TaskRunError
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.dispatch import Slots
from durable_nb.engine.new_runs import new_run
from durable_nb.log import endings
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until

MINUTE = timedelta(minutes=1)


def stay(bench: Bench, durable: Durable, ref: Any) -> Durable:
    return durable


def evict(bench: Bench, durable: Durable, ref: Any) -> Durable:
    wait_until(lambda: durable.runs.evict(ref), what="the eviction")
    return durable


def crash(bench: Bench, durable: Durable, ref: Any) -> Durable:
    bench.crash()
    return bench.durable()


PLACES = [stay, evict, crash]


class Said(list[str]):
    """What tasks said, in all engines of a test."""


def cleaning(durable: Durable, said: Said, *, minutes: float = 0, name: str = "clean", **options: Any) -> Task[Any]:
    """Declare a task that waits, and cleans up with checkpoints when it is cancelled."""

    def release() -> str:
        said.append("released")
        return "free"

    @durable.durable_task(name=name, **options)
    async def clean(input: Any, ctx: DurableContext) -> Any:
        said.append("in")
        try:
            await ctx.aio_wait_for_event("go")
        except asyncio.CancelledError:
            assert ctx.is_cancelled
            if minutes:
                await ctx.aio_sleep_for(timedelta(minutes=minutes))
            await ctx.aio_memo(release)
            raise
        return "went"

    return clean


@pytest.fixture
def said() -> Said:
    return Said()


def cancelled(durable: Durable, ref: Any) -> str:
    """Give how a run's result says that it was cancelled."""
    with pytest.raises(RunCancelledError) as caught:
        durable.runs.get_result(ref)
    assert view(durable, ref).status == "CANCELLED"
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_waiting_run_is_told_and_cleans_up(
    bench: Bench, durable: Durable, said: Said, place: Callable[[Bench, Durable, Any], Durable]
) -> None:
    ref = cleaning(durable, said).run(wait_for_result=False)
    bench.asked(ref, 1)
    durable = place(bench, durable, ref)
    if place is crash:
        cleaning(durable, said)
    assert durable.runs.cancel(ref, reason="not needed") is True
    assert cancelled(durable, ref) == f"Run {ref.workflow_run_id} of 'clean' was cancelled: not needed."
    assert said.count("released") == 1
    run = view(durable, ref)
    assert (run.is_evicted, run.blocked_reason, run.retry_count, run.owner, run.output) == (False, None, 0, None, None)
    assert bench.asks(ref) == [(1, 1, "event go"), (1, 2, "memo " + bench.asks(ref)[1][2].removeprefix("memo "))]
    assert bench.open_waits(ref) == []


def test_a_cancel_is_asked_for_while_nobody_is_there(bench: Bench, durable: Durable, said: Said) -> None:
    """The fact is in the log, the process dies before it tells the run: the next one does."""
    ref = cleaning(durable, said).run(wait_for_result=False)
    bench.asked(ref, 1)
    evict(bench, durable, ref)
    other = bench.durable()  # knows no such task
    assert other.runs.cancel(ref)
    durable.close()
    other.close()
    bench.crash()
    third = bench.durable()
    cleaning(third, said)
    assert "was cancelled." in cancelled(third, ref)
    assert said.count("released") == 1


@pytest.mark.parametrize("retries", [0, 3])
def test_what_swallows_the_cancel_is_cancelled_and_never_retried(durable: Durable, bench: Bench, retries: int) -> None:
    @durable.durable_task(retries=retries)
    async def swallow(input: str, ctx: DurableContext) -> str:
        try:
            await ctx.aio_wait_for_event("go")
        except asyncio.CancelledError:
            if input == "fail":
                raise ValueError("while cleaning up") from None
        return "as if nothing had been"

    refs = [swallow.run(how, wait_for_result=False) for how in ("return", "fail")]
    for ref in refs:
        bench.asked(ref, 1)
        assert durable.runs.cancel(ref)
        cancelled(durable, ref)
        assert (view(durable, ref).retry_count, view(durable, ref).output) == (0, None)


def test_a_cancel_reaches_gather_and_task_groups(durable: Durable, bench: Bench, said: Said) -> None:
    async def one(ctx: DurableContext, name: str) -> None:
        try:
            await ctx.aio_wait_for_event(name)
        except asyncio.CancelledError:
            said.append(name)
            raise

    @durable.durable_task()
    async def many(input: Any, ctx: DurableContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(one(ctx, "a"))
            await asyncio.gather(one(ctx, "b"), one(ctx, "c"))

    ref = many.run(wait_for_result=False)
    bench.asked(ref, 3)
    durable.runs.cancel(ref)
    cancelled(durable, ref)
    assert sorted(said) == ["a", "b", "c"]
    assert bench.open_waits(ref) == []


def test_the_cancel_has_its_place_in_the_order(bench: Bench, durable: Durable) -> None:
    """Outcomes that were recorded before it are delivered before it, those recorded after it to nobody; so does a replay."""

    def declare(durable: Durable, order: list[str]) -> Task[Any]:
        @durable.durable_task()
        async def ordered(input: Any, ctx: DurableContext) -> None:
            async def hear(name: str) -> None:
                await ctx.aio_wait_for_event(name)
                order.append(name)

            try:
                await asyncio.gather(*map(hear, "abc"))
            except asyncio.CancelledError:
                order.append("cancel")
                await ctx.aio_wait_for_event("end")
                order.append("end")
                raise

        return ordered

    live, again = list[str](), list[str]()
    ref = declare(durable, live).run(wait_for_result=False)
    bench.asked(ref, 3)
    evict(bench, durable, ref)
    other = bench.durable()
    for key in "ba":
        other.event.push(key)
    other.runs.cancel(ref)
    other.event.push("c")
    bench.asked(ref, 4)
    assert live == ["b", "a", "cancel"]
    bench.crash()
    second = bench.durable()
    declare(second, again)
    second.event.push("end")
    cancelled(second, ref)
    assert again == ["b", "a", "cancel", "end"]


def test_a_foreign_await_does_not_move_the_cancel(bench: Bench, durable: Durable) -> None:
    """Delivered after node 2, it is replayed after node 2, though the run rests in a foreign await before."""

    def declare(durable: Durable, caught: list[str]) -> Task[Any]:
        @durable.durable_task()
        async def foreign(input: Any, ctx: DurableContext) -> None:
            await ctx.aio_now()
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                caught.append("too early")
            try:
                await ctx.aio_wait_for_event("go")
            except asyncio.CancelledError:
                caught.append("here")
                await ctx.aio_wait_for_event("end")

        return foreign

    live, again = list[str](), list[str]()
    ref = declare(durable, live).run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.runs.cancel(ref)
    bench.asked(ref, 3)
    bench.crash()
    second = bench.durable()
    declare(second, again)
    second.open()
    wait_until(lambda: again)
    second.event.push("end")
    cancelled(second, ref)
    assert (live, again) == (["here"], ["here"])


def test_a_memo_in_flight_is_given_up_and_so_replayed(bench: Bench, durable: Durable, said: Said) -> None:
    gate = threading.Event()

    def declare(durable: Durable) -> Task[Any]:
        async def slow() -> None:
            said.append("memo")
            await opened(gate)

        @durable.durable_task()
        async def work(input: Any, ctx: DurableContext) -> None:
            try:
                await ctx.aio_memo(slow)
            except asyncio.CancelledError:
                said.append("caught")
                await ctx.aio_wait_for_event("end")

        return work

    ref = declare(durable).run(wait_for_result=False)
    wait_until(lambda: "memo" in said)
    durable.runs.cancel(ref)
    bench.asked(ref, 2)
    evict(bench, durable, ref)
    durable.event.push("end")
    cancelled(durable, ref)
    assert said == ["memo", "caught", "caught"]


# ---------------------------------------------------------------- grace


@pytest.mark.parametrize("place", PLACES)
def test_clean_up_has_the_grace_and_no_more(
    bench: Bench, durable: Durable, said: Said, place: Callable[[Bench, Durable, Any], Durable]
) -> None:
    ref = cleaning(durable, said, minutes=10, cancel_grace="2m").run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.runs.cancel(ref)
    bench.asked(ref, 2)
    durable = place(bench, durable, ref)
    if place is crash:
        cleaning(durable, said, minutes=10, cancel_grace="2m")
        durable.open()
    settle(durable)
    bench.clock.advance(119)
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    bench.clock.advance(1)
    cancelled(durable, ref)
    assert "released" not in said
    assert bench.open_waits(ref) == []


def test_clean_up_within_the_grace_may_sleep(bench: Bench, durable: Durable, said: Said) -> None:
    ref = cleaning(durable, said, minutes=1, cancel_grace=MINUTE * 2).run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.runs.cancel(ref)
    bench.asked(ref, 2)
    bench.clock.advance(61)
    cancelled(durable, ref)
    assert said == ["in", "released"]


def test_a_second_cancel_does_not_lengthen_the_grace(bench: Bench, durable: Durable, said: Said) -> None:
    ref = cleaning(durable, said, minutes=10).run(wait_for_result=False)
    bench.asked(ref, 1)
    assert durable.runs.cancel(ref, reason="first") is True
    bench.asked(ref, 2)
    bench.clock.advance(20)
    assert durable.runs.cancel(ref, reason="second") is True
    assert bench.count("cancel") == 1
    bench.clock.advance(10)
    assert cancelled(durable, ref).endswith("was cancelled: first.")


def test_nobody_who_knows_the_task_is_needed_for_the_end(bench: Bench, durable: Durable, said: Said) -> None:
    ref = cleaning(durable, said).run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.close()
    other = bench.durable()
    other.runs.cancel(ref)
    assert view(other, ref).status == "RUNNING"
    settle(other)
    bench.clock.advance(30)
    cancelled(other, ref)


# ---------------------------------------------------------------- where it ends at once


def test_a_queued_run_ends_at_once(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=1))
    said = Said()
    held = cleaning(durable, said, eviction_policy=None).run(wait_for_result=False)
    bench.asked(held, 1)
    queued = durable.tasks["clean"].run(wait_for_result=False)
    assert durable.runs.cancel(queued)
    assert view(durable, queued).status == "CANCELLED"
    assert said == ["in"]


def test_a_run_that_waits_for_its_retry_ends_at_once(durable: Durable) -> None:
    @durable.task(retries=5, backoff_factor=100)
    async def flaky(input: Any, ctx: Context) -> None:
        raise ValueError

    ref = flaky.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.retry_count == 1)
    durable.runs.cancel(ref)
    assert view(durable, ref).status == "CANCELLED"


def test_a_blocked_run_ends_at_once(durable: Durable) -> None:
    @durable.task(on_exhausted="park")
    async def fail(input: Any, ctx: Context) -> None:
        raise ValueError

    ref = fail.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.blocked_reason)
    assert durable.runs.cancel(ref)
    run = view(durable, ref)
    assert (run.status, run.blocked_reason) == ("CANCELLED", None)


@pytest.mark.parametrize("how", ["done", "failed", "cancelled"])
def test_an_ended_run_is_told_so(durable: Durable, how: str) -> None:
    @durable.task()
    async def end(input: str, ctx: Context) -> str:
        if input == "failed":
            raise ValueError
        if input == "cancelled":
            await ctx.aio_cancel()
        return input

    ref = end.run(how, wait_for_result=False)
    before = reach(durable, ref, lambda run: run.is_ended)
    assert durable.runs.cancel(ref) is False
    assert view(durable, ref) == before


# ---------------------------------------------------------------- regular tasks


def test_an_async_task_gets_the_error(durable: Durable, said: Said) -> None:
    @durable.task(retries=3)
    async def work(input: Any, ctx: Context) -> str:
        said.append("in")
        try:
            await asyncio.Event().wait()
        finally:
            said.append("out")
        return ""

    ref = work.run(wait_for_result=False)
    wait_until(lambda: said)
    durable.runs.cancel(ref)
    cancelled(durable, ref)
    assert said == ["in", "out"]


def test_a_thread_is_told_by_its_flag_and_its_result_is_dropped(durable: Durable, said: Said) -> None:
    @durable.task()
    def work(input: Any, ctx: Context) -> str:
        said.append("in")
        wait_until(lambda: ctx.is_cancelled and ctx.exit_flag)
        return "dropped"

    ref = work.run(wait_for_result=False)
    wait_until(lambda: said)
    durable.runs.cancel(ref)
    cancelled(durable, ref)
    assert view(durable, ref).output is None


def test_a_thread_that_goes_on_keeps_its_slot_after_the_grace(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    durable, gate, ran = bench.durable(slots=Slots(thread=1)), threading.Event(), list[int]()
    flags: list[bool] = []

    @durable.task()
    def work(input: int, ctx: Context) -> None:
        ran.append(input)
        gate.wait(10)
        flags.append(ctx.is_cancelled)

    first, second = (work.run(number, wait_for_result=False) for number in (1, 2))
    wait_until(lambda: ran == [1])
    durable.runs.cancel(first)
    settle(durable)
    bench.clock.advance(30)
    cancelled(durable, first)
    assert (ran, view(durable, second).status) == ([1], "QUEUED")
    wait_until(lambda: "keeps its slot until it ends" in caplog.text)
    gate.set()
    second.result()
    assert flags == [True, False]


@pytest.mark.parametrize("lane", ["loop", "thread"])
def test_a_regular_run_that_was_cancelled_is_not_executed_again_after_a_crash(bench: Bench, said: Said, lane: str) -> None:
    gate = threading.Event()

    def declare(durable: Durable) -> Task[Any]:
        if lane == "thread":

            @durable.task(name="work")
            def work(input: Any, ctx: Context) -> None:
                said.append("in")
                gate.wait(10)
        else:

            @durable.task(name="work")
            async def work(input: Any, ctx: Context) -> None:
                said.append("in")
                while not gate.is_set():
                    try:
                        await opened(gate)
                    except asyncio.CancelledError:
                        continue

        return durable.tasks["work"]

    ref = declare(durable := bench.durable()).run(wait_for_result=False)
    wait_until(lambda: said)
    durable.runs.cancel(ref)
    bench.crash()
    second = bench.durable()
    declare(second)
    cancelled(second, ref)
    gate.set()
    assert said == ["in"]


# ---------------------------------------------------------------- by itself


@pytest.mark.parametrize("place", [stay, crash])
def test_a_durable_run_cancels_itself(bench: Bench, place: Any) -> None:
    def declare(durable: Durable, seen: list[str]) -> Task[Any]:
        @durable.durable_task(name="own")
        async def own(input: str, ctx: DurableContext) -> None:
            await ctx.aio_now()
            try:
                if input == "aio":
                    await ctx.aio_cancel()
                ctx.cancel()
                await ctx.aio_sleep_for(timedelta(days=1))
            except asyncio.CancelledError:
                seen.append("caught")
                await ctx.aio_wait_for_event("end")

        return own

    seen: list[str] = []  # of all engines, since any of them may take the run up
    for how in ("sync", "aio"):
        seen.clear()
        durable = bench.durable()
        ref = declare(durable, seen).run(how, wait_for_result=False)
        wait_until(lambda ref=ref: bench.open_waits(ref) == ["end"])  # type: ignore[misc]
        durable = place(bench, durable, ref)
        if place is crash:
            declare(durable, seen)
        durable.event.push("end")
        assert cancelled(durable, ref).endswith("was cancelled: it cancelled itself.")
        assert set(seen) == {"caught"}


def test_a_thread_cancels_its_own_run(durable: Durable) -> None:
    @durable.task()
    def own(input: Any, ctx: Context) -> str:
        ctx.cancel()
        wait_until(lambda: ctx.is_cancelled)
        return "dropped"

    cancelled(durable, own.run(wait_for_result=False))


# ---------------------------------------------------------------- races


def test_whoever_commits_first_wins(durable: Durable, bench: Bench) -> None:
    @durable.durable_task()
    async def quick(input: Any, ctx: DurableContext) -> str:
        await ctx.aio_wait_for_event("go")
        return "went"

    refs = quick.run_many([quick.create_bulk_run_item() for _ in range(40)], wait_for_result=False)
    for ref in refs:
        bench.asked(ref, 1)
    pushing = threading.Thread(target=lambda: durable.event.push("go"))
    pushing.start()
    told = [durable.runs.cancel(ref) for ref in refs]
    pushing.join()
    for ref, is_told in zip(refs, told, strict=True):
        run = reach(durable, ref, lambda run: run.is_ended)
        assert run.status == ("CANCELLED" if is_told else "COMPLETED")


def test_a_cancel_before_the_first_step(durable: Durable) -> None:
    """However early it comes, it is not lost."""

    @durable.durable_task()
    async def forever(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("never")

    for _ in range(30):
        ref = forever.run(wait_for_result=False)
        durable.runs.cancel(ref)
        cancelled(durable, ref)


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_cancel_in_the_same_commit_as_the_run(durable: Durable, said: Said, kind: str) -> None:
    """The run is owned before it is in memory: what comes in between waits for it."""

    @getattr(durable, kind)()  # type: ignore[untyped-decorator]
    async def work(input: Any, ctx: Context) -> str:
        said.append("in")
        if isinstance(ctx, DurableContext):
            await ctx.aio_wait_for_event("never")
        return ""

    engine = durable.open().engine

    async def both() -> str:
        await asyncio.sleep(0.1)  # the dispatcher looks for nothing any more, so the run gets its slot when it is written
        run, _ = new_run(engine, work, work.create_bulk_run_item(), parent=None, index=None)
        started = asyncio.ensure_future(engine.start_runs(work, [run]))
        await asyncio.sleep(0)

        def cancel(connection: sqlite3.Connection) -> Any:
            (number,) = connection.execute("SELECT number FROM run WHERE id = ?", (run.id,)).fetchone()
            return endings.cancel(connection, number, reason="", at=engine.clock.now())

        await engine.writer.submit(cancel, lambda done: engine.apply(done[1]))
        await started
        return run.id

    run_id = engine.thread.call(both, aio="")
    cancelled(durable, durable.runs.get_run_ref(run_id))
    assert view(durable, durable.runs.get_run_ref(run_id)).invocation_count == 1
    assert said == (["in"] if kind == "durable_task" else [])


def test_a_memo_of_the_clean_up_that_raises_cancelled_error_is_a_failure(bench: Bench, durable: Durable, said: Said) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    @durable.durable_task()
    async def work(input: Any, ctx: DurableContext) -> None:
        try:
            await ctx.aio_wait_for_event("never")
        except asyncio.CancelledError:
            try:
                await ctx.aio_memo(give_up)
            except TaskRunError as error:
                said.append(error.exc_type)

    ref = work.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.runs.cancel(ref)
    cancelled(durable, ref)
    assert said == ["CancelledError"]


# ---------------------------------------------------------------- two engines


@pytest.mark.parametrize("kind", ["durable", "async", "thread"])
def test_the_owner_in_another_engine_is_told(bench: Bench, said: Said, kind: str) -> None:
    a, b = bench.durable(clock=SystemClock()), bench.durable(clock=SystemClock())
    if kind == "durable":
        task = cleaning(a, said)
    elif kind == "async":

        @a.task()
        async def work(input: Any, ctx: Context) -> None:
            said.append("in")
            await asyncio.Event().wait()

        task = work
    else:

        @a.task()
        def watch(input: Any, ctx: Context) -> None:
            said.append("in")
            wait_until(lambda: ctx.is_cancelled)

        task = watch
    ref = task.run(wait_for_result=False)
    wait_until(lambda: said)
    assert b.runs.cancel(ref)
    cancelled(b, ref)
    cancelled(a, ref)
    assert said == (["in", "released"] if kind == "durable" else ["in"])


@pytest.mark.slow
def test_the_grace_is_over_on_the_real_clock_and_the_owner_leaves(bench: Bench, said: Said) -> None:
    a, b = bench.durable(clock=SystemClock()), bench.durable(clock=SystemClock())

    @a.durable_task(cancel_grace=0.5)
    async def stubborn(input: Any, ctx: DurableContext) -> None:
        try:
            await ctx.aio_wait_for_event("never")
        except asyncio.CancelledError:
            try:
                await ctx.aio_wait_for_event("never either")
            finally:
                said.append("out")

    ref = stubborn.run(wait_for_result=False)
    bench.asked(ref, 1)
    b.runs.cancel(ref)
    cancelled(b, ref)
    wait_until(lambda: said == ["out"])
    wait_until(lambda: not a.engine.executions)


def test_a_failed_parent_of_a_cancelled_child_did_not_get_cancelled(durable: Durable, bench: Bench) -> None:
    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("never")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        await child.aio_run()

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 1)
    [below] = wait_until(lambda: durable.runs.list(parent=ref))
    durable.runs.cancel(below.id)
    with pytest.raises(TaskRunError, match="was cancelled") as caught:
        ref.result()
    assert caught.value.exc_type == "RunCancelledError"
    assert view(durable, ref).status == "FAILED"


@pytest.mark.parametrize("kind", ["tasks", "a shielded gather", "a regular task", "its end"])
def test_what_its_code_left_waiting_for_its_children_says_nothing(
    durable: Durable, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    said: list[str] = []

    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> Any:
        said.append("in")
        return await ctx.aio_wait_for_event("never")

    async def body() -> None:
        tasks = [asyncio.create_task(child.aio_run(number)) for number in range(3)]
        if kind == "a shielded gather":
            await asyncio.shield(asyncio.gather(*tasks))
        await tasks[0]

    if kind == "a regular task":

        @durable.task(name="parent")
        async def regular(input: Any, ctx: Context) -> None:
            await body()

    else:

        @durable.durable_task(name="parent")
        async def parent(input: Any, ctx: DurableContext) -> None:
            try:
                await body()
            finally:
                if kind != "its end":
                    await ctx.aio_memo(lambda: said.append("clean-up"))

    ref = durable.tasks["parent"].run(wait_for_result=False)
    wait_until(lambda: said == ["in"] * 3)
    durable.runs.cancel(ref)
    cancelled(durable, ref)
    wait_until(lambda: not durable.engine.executions, what="the end of the children")
    durable.close()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == []


def test_a_run_that_waits_in_a_shielded_gather_is_evicted_and_told(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        return list(await asyncio.shield(asyncio.gather(ctx.aio_wait_for_event("a"), ctx.aio_wait_for_event("b"))))

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    evict(bench, durable, ref)
    durable.event.push("a", 1)
    durable.event.push("b", 2)
    assert ref.result() == [1, 2]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["wait", "background"])
def test_what_the_function_does_not_await_itself_cleans_up_too(
    bench: Bench, durable: Durable, said: Said, how: str, place: Callable[[Bench, Durable, Any], Durable]
) -> None:
    """asyncio cancels what a task awaits, not what it left to itself or looks at by `asyncio.wait`: the engine does, in order."""

    def declare(durable: Durable) -> Task[Any]:
        @durable.durable_task()
        async def work(input: Any, ctx: DurableContext) -> None:
            async def worker(name: str) -> None:
                try:
                    await ctx.aio_wait_for_event(name)
                except asyncio.CancelledError:
                    await ctx.aio_wait_for_event(f"free {name}")
                    await ctx.aio_memo(said.append, Any, name)
                    raise

            tasks = [asyncio.create_task(worker(name)) for name in "abc"]
            if how == "wait":
                await asyncio.wait(tasks)
            await ctx.aio_wait_for_event("never")

        return work

    ref = declare(durable).run(wait_for_result=False)
    bench.asked(ref, 3 if how == "wait" else 4)
    durable.runs.cancel(ref)
    wait_until(lambda: bench.open_waits(ref) == ["free a", "free b", "free c"])
    durable = place(bench, durable, ref)
    if place is crash:
        declare(durable)
    for name in "cab":
        durable.event.push(f"free {name}")
        wait_until(lambda name=name: name in said)  # type: ignore[misc]
    cancelled(durable, ref)
    assert said == ["c", "a", "b"]
    assert view(durable, ref).blocked_reason is None
