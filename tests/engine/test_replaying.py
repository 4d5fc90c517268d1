"""Replay: what has ended, or is blocked, runs once more as the same run; what was executed is not executed again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, NonRetryableException, TaskRunError
from durable_nb.errors import RunActiveError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, settle, view, wait_until


class Work:
    """A child and a memo that count their executions; the child fails as often as it is told to."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failures = 0

    def declare(self, durable: Durable, **options: Any) -> Task[Any]:
        @durable.task()
        async def child(input: str, ctx: Context) -> str:
            self.ran.append(input)
            if input == "b" and self.failures:
                self.failures -= 1
                raise ValueError("b failed")
            return input.upper()

        def note() -> str:
            self.ran.append("memo")
            return "noted"

        @durable.durable_task(**options)
        async def parent(input: Any, ctx: DurableContext) -> list[Any]:
            noted = await ctx.aio_memo(note)
            return [noted, *[await child.aio_run(name) for name in "abc"], ctx.retry_count]

        return parent


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.mark.parametrize("is_crashed", [False, True])
def test_a_completed_run_executes_nothing_again(bench: Bench, durable: Durable, work: Work, is_crashed: bool) -> None:
    ref = work.declare(durable).run(wait_for_result=False)
    assert ref.result() == ["noted", "A", "B", "C", 0]
    if is_crashed:
        durable.close()
        bench.crash()
        durable = bench.durable()
        work.declare(durable)
    again = durable.runs.replay(ref)
    assert again.workflow_run_id == ref.workflow_run_id
    assert again.result() == ["noted", "A", "B", "C", 1]
    assert work.ran == ["memo", "a", "b", "c"]
    run = view(durable, ref)
    assert (run.status, run.branch, run.retry_count) == ("COMPLETED", 1, 1)


@pytest.mark.parametrize("is_crashed", [False, True])
def test_a_failed_run_asks_what_failed_afresh(bench: Bench, durable: Durable, work: Work, is_crashed: bool) -> None:
    work.failures = 2
    ref = work.declare(durable, retries=1).run(wait_for_result=False)
    with pytest.raises(TaskRunError):
        ref.result()
    if is_crashed:
        durable.close()
        bench.crash()
        durable = bench.durable()
        work.declare(durable, retries=1)
    assert durable.runs.replay(ref).result() == ["noted", "A", "B", "C", 2]
    assert work.ran == ["memo", "a", "b", "b", "b", "c"]
    assert view(durable, ref).branch == 3


def test_a_failed_run_without_a_failed_checkpoint_keeps_everything(durable: Durable) -> None:
    ran: list[str] = []

    def note() -> None:
        ran.append("memo")

    @durable.durable_task()
    async def own(input: Any, ctx: DurableContext) -> str:
        await ctx.aio_memo(note)
        if ctx.retry_count == 0:
            raise ValueError("its own fault")
        return "mended"

    ref = own.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.status == "FAILED")
    assert durable.runs.replay(ref).result() == "mended"
    assert (ran, view(durable, ref).branch, view(durable, ref).error) == (["memo"], 1, None)


def test_a_regular_run_is_executed_again(durable: Durable) -> None:
    @durable.task()
    async def count(input: Any, ctx: Context) -> int:
        if ctx.retry_count == 1:
            raise ValueError
        return ctx.retry_count

    ref = count.run(wait_for_result=False)
    assert ref.result() == 0
    with pytest.raises(TaskRunError):
        durable.runs.replay(ref).result()
    assert durable.runs.replay(ref).result() == 2


def test_an_active_run_is_refused(durable: Durable, bench: Bench) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    with pytest.raises(RunActiveError, match="is RUNNING, so it cannot be replayed: cancel it first, or reset it"):
        durable.runs.replay(ref)


def test_parents_keep_the_outcome_they_had(durable: Durable) -> None:
    outcomes = iter(["first", "second"])

    @durable.task()
    async def child(input: Any, ctx: Context) -> str:
        return next(outcomes)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> str:
        return str(await child.aio_run())

    ref = parent.run(wait_for_result=False)
    assert ref.result() == "first"
    [run] = durable.runs.list(parent=ref)
    assert durable.runs.replay(run.id).result() == "second"
    assert durable.runs.replay(ref).result() == "first"


@pytest.mark.parametrize("hours", [1, 0])
def test_what_a_failed_run_still_waited_for_goes_on(bench: Bench, durable: Durable, hours: int) -> None:
    """23 of 24 hours gone before the failure, or before the replay: the sleep is due when it was."""
    work = Work()
    work.failures = 1

    @durable.task()
    async def child(input: Any, ctx: Context) -> None:
        if ctx.parent_workflow_run_id and work.failures:
            work.failures -= 1
            raise ValueError

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> float:
        slept, *_ = await asyncio.gather(ctx.aio_sleep_for(timedelta(hours=24)), child.aio_run())
        return slept.elapsed.total_seconds() / 3600

    ref = parent.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.status == "FAILED")
    assert bench.open_waits(ref) == []
    settle(durable)
    bench.clock.advance(timedelta(hours=24 - hours))
    again = durable.runs.replay(ref)
    if hours:
        wait_until(lambda: bench.open_waits(ref))
        assert not view(durable, ref).is_ended
        bench.clock.advance(timedelta(hours=hours))
    assert again.result() == 24


def test_a_cancelled_run_goes_on_where_it_was_cancelled(bench: Bench, durable: Durable, work: Work) -> None:
    """The clean-up is left behind, children that were cancelled with it are spawned afresh, what was done stays done."""

    @durable.task()
    async def quick(input: str, ctx: Context) -> str:
        work.ran.append(input)
        return input

    @durable.durable_task()
    async def slow(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("child")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        first = await quick.aio_run("first")
        try:
            return [first, *await asyncio.gather(slow.aio_run(), ctx.aio_wait_for_event("own"))]
        except asyncio.CancelledError:
            await quick.aio_run("clean")
            raise

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 3)
    durable.runs.cancel(ref)
    reach(durable, ref, lambda run: run.status == "CANCELLED")
    assert work.ran == ["first", "clean"]
    again = durable.runs.replay(ref)
    wait_until(lambda: len(bench.rows("SELECT 1 FROM v_waits")) == 2)
    for key in ("child", "own"):
        durable.event.push(key, key)
    assert again.result() == ["first", "child", "own"]
    assert work.ran == ["first", "clean"]
    assert view(durable, ref).retry_count == 1


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_run_that_was_cancelled_in_the_queue_runs_from_its_start(durable: Durable, kind: str) -> None:
    @getattr(durable, kind)(retries=1, backoff_factor=1000)  # type: ignore[untyped-decorator]
    async def work(input: Any, ctx: Context) -> int:
        if ctx.retry_count == 0:
            raise ValueError
        return ctx.retry_count

    ref = work.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.retry_count == 1)
    durable.runs.cancel(ref)
    assert view(durable, ref).status == "CANCELLED"
    assert durable.runs.replay(ref).result() == 2


def test_a_replayed_run_can_be_cancelled_again(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    for number in range(1, 4):
        wait_until(lambda: bench.open_waits(ref))
        durable.runs.cancel(ref)
        reach(durable, ref, lambda run: run.status == "CANCELLED")
        assert bench.count("cancel") == number
        durable.runs.replay(ref)
    wait_until(lambda: bench.open_waits(ref))
    durable.event.push("go")
    reach(durable, ref, lambda run: run.status == "COMPLETED")


def test_bulk_replay_passes_over_active_runs(bench: Bench, durable: Durable) -> None:
    is_mended: list[int] = []

    @durable.task()
    async def flaky(input: int, ctx: Context) -> int:
        if not is_mended:
            raise ValueError
        return input

    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    refs = flaky.run_many([flaky.create_bulk_run_item(input=number) for number in range(3)], wait_for_result=False)
    for ref in refs:
        reach(durable, ref, lambda run: run.status == "FAILED")
    is_mended.append(1)
    active = wait.run(wait_for_result=False)
    bench.asked(active, 1)
    assert durable.runs.bulk_replay(status="FAILED", task="flaky") == [ref.workflow_run_id for ref in refs]
    assert [ref.result() for ref in refs] == [0, 1, 2]
    assert durable.runs.bulk_replay([active, refs[0]]) == [refs[0].workflow_run_id]


# ---------------------------------------------------------------- retries that ran out


@pytest.mark.parametrize("take_up", ["retake", "replay"])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_run_whose_retries_ran_out_is_parked_and_taken_up(
    bench: Bench, durable: Durable, work: Work, take_up: str, retries: int
) -> None:
    work.failures = 1 + retries
    ref = work.declare(durable, retries=retries, on_exhausted="park").run(wait_for_result=False)
    run = reach(durable, ref, lambda run: run.blocked_reason)
    assert (run.status, run.blocked_reason) == ("RUNNING", "Its retries ran out: ValueError: b failed")
    durable.close()
    bench.crash()
    second = bench.durable()
    work.declare(second, retries=retries, on_exhausted="park")
    getattr(second.runs, take_up)(ref)
    assert second.runs.get_result(ref) == ["noted", "A", "B", "C", retries + (take_up == "replay")]
    assert work.ran == ["memo", "a", *"b" * (retries + 2), "c"]
    assert view(second, ref).blocked_reason is None


def test_what_is_not_to_be_retried_fails_all_the_same(durable: Durable) -> None:
    @durable.task(retries=3, on_exhausted="park")
    async def never(input: Any, ctx: Context) -> None:
        raise NonRetryableException("no")

    ref = never.run(wait_for_result=False)
    assert reach(durable, ref, lambda run: run.is_ended).status == "FAILED"


def test_a_parent_waits_for_a_parked_child(durable: Durable) -> None:
    tried: list[int] = []

    @durable.task(on_exhausted="park")
    async def child(input: Any, ctx: Context) -> str:
        tried.append(1)
        if len(tried) == 1:
            raise ValueError
        return "mended"

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> str:
        return str(await child.aio_run())

    ref = parent.run(wait_for_result=False)
    [blocked] = wait_until(lambda: [run for run in durable.runs.list(parent=ref) if run.blocked_reason])
    assert view(durable, ref).status == "RUNNING"
    durable.runs.retake(blocked.id)
    assert ref.result() == "mended"


def test_siblings_that_a_failure_gave_up_are_waited_for_by_the_retry(bench: Bench, durable: Durable) -> None:
    """A task group cancels the siblings of what failed; the retry asks for them again instead of waiting for nobody."""
    work = Work()
    work.failures = 1

    @durable.task()
    async def child(input: Any, ctx: Context) -> None:
        wait_until(lambda: bench.count("wait"))
        if work.failures:
            work.failures -= 1
            raise ValueError

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> Any:
        async with asyncio.TaskGroup() as group:
            heard = group.create_task(ctx.aio_wait_for_event("go"))
            group.create_task(child.aio_run())
        return heard.result()

    ref = parent.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.retry_count == 1)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.event.push("go", "went")
    assert ref.result() == "went"


def test_an_unknown_way_of_exhaustion_is_refused(durable: Durable) -> None:
    from durable_nb.errors import DeclarationError

    with pytest.raises(DeclarationError, match="on_exhausted='wait' is unknown: give 'fail' or 'park'"):
        durable.task(on_exhausted="wait")
