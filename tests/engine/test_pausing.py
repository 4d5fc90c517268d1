"""Pausing a task: no run of it is claimed, in any process, until it is unpaused."""

from __future__ import annotations

from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import SyncCallError
from tests.engine.helpers import Bench, reach, settle, view, wait_until


def declare(durable: Durable, **options: Any) -> list[Any]:
    ran: list[Any] = []

    @durable.task(**options)
    async def work(input: Any, ctx: Context) -> Any:
        ran.append(input)
        return input

    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    return ran


def test_runs_of_a_paused_task_stay_queued_and_others_go_on(bench: Bench, durable: Durable) -> None:
    ran = declare(durable)
    work = durable.tasks["work"]
    assert work.pause()
    assert not work.pause()
    refs = [work.run(number, wait_for_result=False) for number in range(3)]
    settle(durable)
    assert ran == []
    assert {view(durable, ref).status for ref in refs} == {"QUEUED"}
    assert durable.queue.list_paused() == ["work"]
    assert work.unpause()
    assert not work.unpause()
    assert [ref.result() for ref in refs] == [0, 1, 2]


def test_a_run_that_was_entered_goes_on(bench: Bench, durable: Durable) -> None:
    declare(durable)
    wait = durable.tasks["wait"]
    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    wait.pause()
    bench.clock.advance(3600)
    reach(durable, ref, lambda run: run.is_evicted)
    durable.event.push("go", 1)
    assert ref.result() == 1


def test_it_lasts_over_a_crash_and_holds_in_every_process(bench: Bench, durable: Durable) -> None:
    declare(durable)
    durable.tasks["work"].pause()
    bench.crash()
    a, b = bench.durable(), bench.durable()
    ran = [declare(a), declare(b)]
    refs = [engine.tasks["work"].run(1, wait_for_result=False) for engine in (a, b)]
    for engine in (a, b):
        settle(engine)
    assert ran == [[], []]
    b.queue.unpause("work")
    settle(a)
    assert [ref.result() for ref in refs] == [1, 1]


def test_another_process_that_unpauses_is_noticed_in_real_time(bench: Bench) -> None:
    a, b = bench.durable(clock=SystemClock()), bench.durable(clock=SystemClock())
    ran = declare(a)
    a.tasks["work"].pause()
    ref = a.tasks["work"].run(7, wait_for_result=False)
    b.queue.unpause("work")
    assert ref.result() == 7
    assert ran == [7]


def test_a_retry_waits_too_and_time_in_a_paused_queue_does_not_count(bench: Bench, durable: Durable) -> None:
    ran = declare(durable, schedule_timeout=60)
    work = durable.tasks["work"]
    work.pause()
    ref = work.run(1, wait_for_result=False)
    for _ in range(3):
        bench.clock.advance(100)
        settle(durable)
    assert view(durable, ref).status == "QUEUED"
    work.unpause()
    assert ref.result() == 1
    assert ran == [1]


def test_children_of_a_paused_task_wait(bench: Bench, durable: Durable) -> None:
    ran = declare(durable)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> Any:
        return await durable.tasks["work"].aio_run(5)

    durable.tasks["work"].pause()
    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 1)
    settle(durable)
    assert ran == []
    durable.tasks["work"].unpause()
    assert ref.result() == 5


def test_inside_a_task_the_sync_form_names_the_other(durable: Durable) -> None:
    declare(durable)

    @durable.task()
    async def stop(input: Any, ctx: Context) -> bool:
        with pytest.raises(SyncCallError, match=r"await work.aio_pause\(…\)"):
            durable.tasks["work"].pause()
        return await durable.tasks["work"].aio_pause()

    assert stop.run() is True
    wait_until(lambda: durable.queue.list_paused() == ["work"])
