"""`ctx.on_finish`: called at the end of the run, whatever its status; at least once, and never at an eviction."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, NonRetryableException, TaskRunError
from durable_nb.engine.dispatch import Slots
from tests.engine.helpers import Bench, reach, view, wait_until


@pytest.mark.parametrize("lane", ["loop", "thread", "durable"])
@pytest.mark.parametrize("fails", [False, True])
def test_it_is_called_once_at_the_end_of_a_run_with_retries(durable: Durable, lane: str, fails: bool) -> None:
    said: list[str] = []

    def body(ctx: Context) -> str:
        said.append(f"attempt {ctx.attempt_number}")

        async def asynchronous(status: str) -> None:
            said.append(f"async {status}")

        ctx.on_finish(lambda: said.append("first"))
        ctx.on_finish(asynchronous)
        ctx.on_finish(lambda status: said.append(f"last {status}"))
        if ctx.retry_count == 0 or fails:
            raise ValueError("no")
        return "done"

    if lane == "thread":
        durable.task(name="work", retries=1)(lambda_of(body))
    else:

        @getattr(durable, "task" if lane == "loop" else "durable_task")(name="work", retries=1)  # type: ignore[untyped-decorator]
        async def work(input: Any, ctx: Context) -> str:
            return body(ctx)

    ref = durable.tasks["work"].run(wait_for_result=False)
    status = reach(durable, ref, lambda run: run.is_ended).status
    assert status == ("FAILED" if fails else "COMPLETED")
    assert said == ["attempt 1", "attempt 2", "first", f"async {status}", f"last {status}"]


def lambda_of(body: Any) -> Any:
    def work(input: Any, ctx: Context) -> Any:
        return body(ctx)

    return work


def test_it_is_called_before_anybody_is_told_of_the_end(durable: Durable) -> None:
    gate, inside = threading.Event(), threading.Event()

    @durable.task()
    async def work(input: Any, ctx: Context) -> str:
        def wait() -> None:
            inside.set()
            gate.wait(20)
            ctx.log("from on_finish")

        ctx.on_finish(wait)
        return "done"

    ref = work.run(wait_for_result=False)
    assert inside.wait(10)
    assert view(durable, ref).status == "RUNNING"
    gate.set()
    assert ref.result() == "done"
    assert [line.text for line in durable.runs.logs(ref.workflow_run_id)] == ["from on_finish"]


def test_an_eviction_calls_nothing_and_the_end_calls_once(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=1))
    said: list[int] = []

    @durable.durable_task()
    async def wait(input: int, ctx: DurableContext) -> int:
        ctx.on_finish(lambda: said.append(input))
        await ctx.aio_wait_for_event("go")
        return input

    refs = [wait.run(number, wait_for_result=False) for number in range(3)]
    wait_until(lambda: bench.rows("SELECT count(*) FROM v_waits")[0][0] == 3)
    reach(durable, refs[0], lambda run: run.is_evicted)
    assert said == []
    durable.event.push("go")
    assert [ref.result() for ref in refs] == [0, 1, 2]
    assert sorted(said) == [0, 1, 2]


def test_a_crash_before_the_end_is_written_calls_it_again(bench: Bench, durable: Durable) -> None:
    gate, inside = threading.Event(), threading.Event()
    said: list[str] = []

    def declare(app: Durable, name: str) -> Any:
        @app.durable_task(name="work")
        async def work(input: Any, ctx: DurableContext) -> str:
            def finish() -> None:
                said.append(name)
                inside.set()
                if name == "first":
                    gate.wait(20)

            ctx.on_finish(finish)
            await ctx.aio_sleep_for(timedelta(0))
            return "done"

        return work

    ref = declare(durable, "first").run(wait_for_result=False)
    assert inside.wait(10)
    bench.crash()
    gate.set()
    again = bench.durable()
    declare(again, "second")
    assert again.runs.get_result(ref.workflow_run_id) == "done"
    assert said == ["first", "second"]


def test_a_crash_after_the_end_is_written_calls_nothing(bench: Bench, durable: Durable) -> None:
    said: list[int] = []

    @durable.task()
    async def work(input: Any, ctx: Context) -> None:
        ctx.on_finish(lambda: said.append(1))

    ref = work.run(wait_for_result=False)
    ref.result()
    bench.crash()
    again = bench.durable()
    again.task(name="work")(work.function)
    assert again.runs.get_result(ref.workflow_run_id) is None
    assert said == [1]


def test_a_parked_run_calls_nothing(bench: Bench, durable: Durable) -> None:
    said: list[int] = []

    def declare(app: Durable, seconds: int) -> Any:
        @app.durable_task(name="work")
        async def work(input: Any, ctx: DurableContext) -> None:
            ctx.on_finish(lambda: said.append(1))
            await ctx.aio_sleep_for(timedelta(seconds=seconds))

        return work

    ref = declare(durable, 10).run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.close()
    again = bench.durable()
    declare(again, 20)
    bench.clock.advance(11)
    reach(again, ref, lambda run: run.blocked_reason)
    assert said == []


def test_what_fails_in_it_is_told_and_changes_nothing(durable: Durable, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []

    @durable.durable_task()
    async def work(input: Any, ctx: DurableContext) -> str:
        def fails() -> None:
            raise ValueError("no mail")

        async def asks() -> None:
            await ctx.aio_now()

        ctx.on_finish(fails)
        ctx.on_finish(asks)
        ctx.on_finish(lambda: said.append("last"))
        return "done"

    assert work.run() == "done"
    assert said == ["last"]
    assert "fails) of run" in caplog.text
    assert "failed: ValueError: no mail" in caplog.text
    assert "asked its run for something" in caplog.text


def test_it_may_use_the_app_object_as_any_caller(durable: Durable) -> None:
    @durable.durable_task()
    async def listener(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("finished")

    @durable.durable_task()
    async def work(input: Any, ctx: DurableContext) -> str:
        async def tell(status: str) -> None:
            await durable.event.aio_push("finished", {"status": status})

        ctx.on_finish(tell)
        raise NonRetryableException("no")

    ref = listener.run(wait_for_result=False)
    reach(durable, ref, lambda run: durable.engine.executions and durable.engine.executions[run.number].is_waiting())
    with pytest.raises(TaskRunError, match="no"):
        work.run()
    assert ref.result() == {"status": "FAILED"}


def test_what_is_no_function_is_refused(durable: Durable) -> None:
    @durable.task()
    async def work(input: Any, ctx: Context) -> None:
        ctx.on_finish("text")  # type: ignore[arg-type]

    with pytest.raises(TaskRunError, match="takes a function, not 'text'"):
        work.run()


def test_a_run_that_times_out_calls_it(bench: Bench, durable: Durable) -> None:
    said: list[str] = []
    inside = threading.Event()

    @durable.task(execution_timeout=10)
    async def slow(input: Any, ctx: Context) -> None:
        ctx.on_finish(said.append)
        inside.set()
        await asyncio.Event().wait()

    ref = slow.run(wait_for_result=False)
    assert inside.wait(10)
    bench.clock.advance(11)
    with pytest.raises(TaskRunError):
        ref.result()
    assert said == ["FAILED"]


@pytest.mark.parametrize("kind", ["loop", "durable", "stubborn", "two engines"])
def test_a_run_whose_grace_is_over_calls_it_when_it_was_left(bench: Bench, durable: Durable, kind: str) -> None:
    said: list[str] = []
    grace = timedelta(seconds=10)

    async def body(ctx: Context) -> None:
        ctx.on_finish(said.append)
        said.append("in")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("clean-up")
            if kind == "stubborn":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            await asyncio.Event().wait()

    if kind == "loop":

        @durable.task(name="work", cancel_grace=grace)
        async def regular(input: Any, ctx: Context) -> None:
            await body(ctx)

    else:

        @durable.durable_task(name="work", cancel_grace=grace)
        async def work(input: Any, ctx: DurableContext) -> None:
            await body(ctx)

    ref = durable.tasks["work"].run(wait_for_result=False)
    wait_until(lambda: said == ["in"])
    durable.runs.cancel(ref)
    wait_until(lambda: said == ["in", "clean-up"])
    if kind == "two engines":
        bench.durable().open()  # may end it first
    bench.clock.advance(11)
    assert reach(durable, ref, lambda run: run.is_ended).status == "CANCELLED"
    wait_until(lambda: len(said) == 3, what="the call")
    assert said == ["in", "clean-up", "CANCELLED"]
