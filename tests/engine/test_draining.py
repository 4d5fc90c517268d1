"""Draining: nothing new is taken up, what waits is evicted, what works comes to its end or goes back. And when one is idle."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.engine.draining import is_done, is_idle
from durable_nb.errors import SyncCallError
from tests.engine.helpers import Bench, reach, view, wait_until


def test_what_waits_is_evicted_what_works_ends_and_nothing_new_begins(bench: Bench, durable: Durable) -> None:
    entered, gate = threading.Event(), threading.Event()

    @durable.durable_task()
    async def waiting(input: None, ctx: DurableContext) -> str:
        await ctx.aio_sleep_for(timedelta(hours=1))
        return "slept"

    @durable.task()
    def working(input: None, ctx: Context) -> str:
        entered.set()
        assert gate.wait(10)
        return "done"

    waits, works = waiting.run(wait_for_result=False), working.run(wait_for_result=False)
    bench.asked(waits, 1)
    assert entered.wait(10)
    left: list[int] = []
    draining = threading.Thread(target=lambda: left.append(durable.drain(grace=10)))
    draining.start()
    reach(durable, waits, lambda run: run.is_evicted, "the eviction")
    late = working.run(wait_for_result=False)
    gate.set()
    draining.join(10)
    assert left == [0]
    assert view(durable, works).status == "COMPLETED"
    assert view(durable, late).status == "QUEUED"
    durable.close()
    assert [row[0] for row in bench.rows("SELECT owner FROM run")] == [None] * 3
    successor = bench.durable()
    successor.tasks = durable.tasks
    with successor:
        bench.clock.advance(timedelta(hours=1))
        assert successor.runs.get_result(waits.workflow_run_id) == "slept"
        assert successor.runs.get_result(late.workflow_run_id) == "done"


def test_what_still_works_after_the_grace_is_counted_and_given_back(bench: Bench, durable: Durable) -> None:
    entered, gate = threading.Event(), threading.Event()

    @durable.task()
    def working(input: None, ctx: Context) -> None:
        entered.set()
        gate.wait(10)

    ref = working.run(wait_for_result=False)
    assert entered.wait(10)
    assert durable.drain(grace=0) == 1
    durable.close()
    gate.set()
    [(status, owner, ready_at)] = bench.rows("SELECT status, owner, ready_at FROM run WHERE id = ?", ref.workflow_run_id)
    assert (status, owner) == ("RUNNING", None)
    assert ready_at is not None, "the next worker takes it up"


def test_an_engine_says_when_it_has_nothing_to_do_and_when_all_is_done(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def waiting(input: None, ctx: DurableContext) -> None:
        await ctx.aio_sleep_for(timedelta(hours=1))

    engine = durable.engine
    assert durable.call(lambda: is_done(engine), aio="")
    ref = waiting.run(wait_for_result=False)
    bench.asked(ref, 1)
    wait_until(lambda: durable.call(lambda: is_idle(engine), aio=""), what="idleness")
    assert not durable.call(lambda: is_done(engine), aio="")
    bench.clock.advance(timedelta(hours=1))
    ref.result()
    wait_until(lambda: durable.call(lambda: is_done(engine), aio=""), what="the end of everything")


def test_a_task_cannot_drain_the_engine_that_runs_it(durable: Durable) -> None:
    @durable.task()
    async def draining(input: None, ctx: Context) -> str:
        with pytest.raises(SyncCallError, match=r"await durable\.aio_drain"):
            durable.drain()
        return "refused"

    assert draining.run() == "refused"
