"""A deadline: a run that has not ended by then is cancelled, wherever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunCancelledError
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import DeclarationError, InputValidationError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, settle, view, wait_until

HOUR = timedelta(hours=1)


def waiter(durable: Durable, **options: Any) -> Task[Any]:
    @durable.durable_task(**options)
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    return wait


@pytest.mark.parametrize("place", ["running", "evicted", "crashed", "unknown"])
def test_a_run_is_cancelled_at_its_deadline(bench: Bench, durable: Durable, place: str) -> None:
    ref = waiter(durable).run(wait_for_result=False, deadline=HOUR)
    bench.asked(ref, 1)
    if place == "evicted":
        wait_until(lambda: durable.runs.evict(ref))
    elif place in ("crashed", "unknown"):
        durable.close()
        bench.crash()
        durable = bench.durable()
        if place == "crashed":
            waiter(durable)
    settle(durable)
    bench.clock.advance(HOUR - timedelta(seconds=1))
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    bench.clock.advance(1)
    if place == "unknown":  # nobody can enter it, so it has its grace for nothing
        reach(durable, ref, lambda run: run.cancelled_at is not None)
        settle(durable)
        bench.clock.advance(30)
    with pytest.raises(RunCancelledError, match=r"was cancelled: its deadline, 2026-01-01 01:00:00 UTC, has passed\."):
        durable.runs.get_result(ref)
    assert bench.rows("SELECT due_at FROM run WHERE id = ?", ref.workflow_run_id) == [(None,)]


def test_a_queued_run_is_cancelled_at_its_deadline(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=1))
    task = waiter(durable, eviction_policy=None)
    held = task.run(wait_for_result=False)
    bench.asked(held, 1)
    ref = task.run(wait_for_result=False, deadline=datetime(2026, 1, 1, 2, tzinfo=UTC))
    settle(durable)
    bench.clock.advance(2 * HOUR)
    assert reach(durable, ref, lambda run: run.is_ended).status == "CANCELLED"
    assert view(durable, held).status == "RUNNING"


def test_what_ends_before_is_left_alone(bench: Bench, durable: Durable) -> None:
    ref = waiter(durable, deadline="1h").run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.event.push("go", "went")
    assert ref.result() == "went"
    bench.clock.advance(2 * HOUR)
    settle(durable)
    assert view(durable, ref).status == "COMPLETED"


@pytest.mark.parametrize("form", ["option", "run", "bulk", "named"])
def test_the_forms_of_a_deadline(bench: Bench, durable: Durable, form: str) -> None:
    task = waiter(durable, **({"deadline": HOUR} if form == "option" else {}))
    if form == "bulk":
        [ref] = task.run_many([task.create_bulk_run_item(deadline=HOUR)], wait_for_result=False)
    elif form == "named":
        ref = durable.start_named(task, None, key="k", deadline=HOUR)
    elif form == "run":
        ref = task.run(wait_for_result=False, deadline=HOUR)
    else:
        ref = task.run(wait_for_result=False)
    assert view(durable, ref).deadline == bench.clock.now() + 3600


def test_a_childs_deadline(bench: Bench, durable: Durable) -> None:
    task = waiter(durable)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> str:
        try:
            await task.aio_run(deadline=HOUR)
        except RunCancelledError as error:
            return str(error)
        return ""

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.count("wait"))
    settle(durable)
    bench.clock.advance(HOUR)
    assert "its deadline, 2026-01-01 01:00:00 UTC, has passed" in ref.result()


def test_a_deadline_that_has_passed_cancels_at_once(durable: Durable) -> None:
    ref = waiter(durable).run(wait_for_result=False, deadline=timedelta(0))
    assert reach(durable, ref, lambda run: run.is_ended).status == "CANCELLED"


def test_a_replay_after_the_deadline_has_none(bench: Bench, durable: Durable) -> None:
    ref = waiter(durable).run(wait_for_result=False, deadline=HOUR)
    bench.asked(ref, 1)
    bench.clock.advance(HOUR)
    reach(durable, ref, lambda run: run.status == "CANCELLED")
    durable.runs.replay(ref)
    wait_until(lambda: bench.open_waits(ref))
    settle(durable)
    bench.clock.advance(HOUR)
    durable.event.push("go", "went")
    assert ref.result() == "went"


def test_wrong_deadlines_are_refused_and_nothing_is_written(bench: Bench, durable: Durable) -> None:
    task = waiter(durable)
    for wrong in (timedelta(seconds=-1), datetime(2026, 1, 1), 60):
        with pytest.raises(InputValidationError, match="give a timedelta of zero or more, or a datetime with a time zone"):
            task.run(deadline=wrong)  # type: ignore[arg-type]
    assert bench.count("run") == 0
    with pytest.raises(DeclarationError, match="deadline=-1 is negative"):
        durable.task(deadline=-1)


@pytest.mark.slow
def test_a_deadline_on_the_real_clock(bench: Bench) -> None:
    durable = bench.durable(clock=SystemClock())
    durable.open()
    ref = waiter(durable).run(wait_for_result=False, deadline=timedelta(seconds=0.3))

    @durable.task()
    async def stuck(input: Any, ctx: Context) -> None:
        import asyncio

        await asyncio.Event().wait()

    other = stuck.run(wait_for_result=False, deadline=timedelta(seconds=0.3))
    for run in (ref, other):
        with pytest.raises(RunCancelledError, match="its deadline"):
            run.result()
