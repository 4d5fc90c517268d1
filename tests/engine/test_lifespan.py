"""Lifespans: entered once before the first task runs, left when the engine is closed; where one fails, runs wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.errors import DeclarationError, LifespanError
from tests.engine.helpers import Bench, opened, reach, view, wait_until


def declare(durable: Durable) -> Any:
    @durable.task(name="see")
    async def see(input: Any, ctx: Context) -> Any:
        return ctx.lifespan

    return see


class Counted:
    """A lifespan that counts."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, kind: str = "generator") -> Any:
        async def live() -> AsyncIterator[dict[str, int]]:
            task = asyncio.current_task()
            await opened(self.gate)
            if self.error is not None:
                raise self.error
            self.said.append("in")
            yield {"answer": 42}
            assert asyncio.current_task() is task
            self.said.append("out")

        return contextlib.asynccontextmanager(live) if kind == "manager" else live


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.mark.parametrize("kind", ["generator", "manager"])
def test_it_is_entered_once_and_left_when_the_engine_is_closed(bench: Bench, counted: Counted, kind: str) -> None:
    durable = bench.durable(lifespan=counted(kind))
    see = declare(durable)

    @durable.durable_task()
    async def orchestrate(input: Any, ctx: DurableContext) -> Any:
        await ctx.aio_now()
        return [ctx.lifespan, await see.aio_run()]

    assert counted.said == []
    assert see.run() == {"answer": 42}
    assert orchestrate.run() == [{"answer": 42}] * 2
    assert counted.said == ["in"]
    durable.close()
    assert counted.said == ["in", "out"]
    assert see.run() == {"answer": 42}
    durable.close()
    assert counted.said == ["in", "out"] * 2


def test_no_run_begins_before_it_has_yielded(bench: Bench, counted: Counted) -> None:
    counted.gate.clear()
    durable = bench.durable(lifespan=counted())
    see = declare(durable)
    refs = [see.run(wait_for_result=False) for _ in range(2)]
    assert [view(durable, ref).status for ref in refs] == ["QUEUED"] * 2
    counted.gate.set()
    assert [ref.result() for ref in refs] == [{"answer": 42}] * 2


def test_where_it_fails_whoever_waits_is_told_and_the_runs_wait(bench: Bench, counted: Counted) -> None:
    counted.error = ValueError("no database")
    counted.gate.clear()
    durable = bench.durable(lifespan=counted())
    see = declare(durable)
    ref = see.run(wait_for_result=False)
    ends: list[BaseException] = []

    def wait() -> None:
        try:
            ref.result()
        except LifespanError as error:
            ends.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_until(lambda: durable.engine.waiters)
    counted.gate.set()
    waiter.join(20)
    [error] = ends
    assert str(error) == (
        "The lifespan failed, so nothing is executed: ValueError: no database. "
        "The runs wait in the log: mend it, close the app object and open it again."
    )
    for late in (ref.result, see.run):
        with pytest.raises(LifespanError, match="no database"):
            late()
    assert view(durable, ref).status == "QUEUED"
    assert bench.count("run") == 1

    durable.close()
    counted.error = None
    assert durable.runs.get_result(ref.workflow_run_id) == {"answer": 42}


def test_where_it_fails_what_has_ended_is_still_told(bench: Bench, durable: Durable, counted: Counted) -> None:
    ref = declare(durable).run(wait_for_result=False)
    assert ref.result() is None
    durable.close()
    counted.error = ValueError("no database")
    broken = bench.durable(lifespan=counted())
    declare(broken)
    assert broken.runs.get_result(ref.workflow_run_id) is None


def test_a_run_goes_on_with_the_lifespan_of_the_engine_that_takes_it_over(
    bench: Bench, durable: Durable, counted: Counted
) -> None:
    def wait_for_go(app: Durable) -> Any:
        @app.durable_task(name="wait")
        async def wait(input: Any, ctx: DurableContext) -> Any:
            await ctx.aio_wait_for_event("go")
            return ctx.lifespan

        return wait

    ref = wait_for_go(durable).run(wait_for_result=False)
    bench.asked(ref, 1)
    bench.crash()
    again = bench.durable(lifespan=counted())
    wait_for_go(again)
    again.event.push("go")
    assert again.runs.get_result(ref.workflow_run_id) == {"answer": 42}


def test_a_lifespan_may_use_the_app_object_itself(bench: Bench) -> None:
    apps: list[Durable] = []

    async def live() -> AsyncIterator[int]:
        yield len(await apps[0].runs.aio_list())
        left.append(len(await apps[0].runs.aio_list()))

    left: list[int] = []
    apps.append(bench.durable(lifespan=live))
    assert declare(apps[0]).run() in {0, 1}
    apps[0].close()
    assert left == [1]
    assert not apps[0].is_open


def test_a_failure_when_it_is_left_is_told_and_closes_the_engine(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def live() -> AsyncIterator[int]:
        yield 1
        raise ValueError("cannot close")

    durable = bench.durable(lifespan=live)
    assert declare(durable).run() == 1
    durable.close()
    assert "The lifespan failed when it was left: ValueError: cannot close" in caplog.text
    assert not durable.is_open


def test_closing_while_it_is_entered_waits_for_nothing(bench: Bench, counted: Counted) -> None:
    counted.gate.clear()
    durable = bench.durable(lifespan=counted())
    ref = declare(durable).run(wait_for_result=False)
    durable.close()
    assert counted.said == []
    counted.gate.set()
    durable.open()
    assert reach(durable, ref, lambda run: run.is_ended).status == "COMPLETED"


async def coroutine() -> None: ...


@pytest.mark.parametrize("wrong", [5, coroutine, lambda: None, contextlib.nullcontext()])
def test_what_is_no_lifespan_is_refused(bench: Bench, wrong: Any) -> None:
    with pytest.raises(DeclarationError, match=r"write `async def lifespan\(\): …; yield value; …`"):
        bench.durable(lifespan=wrong)
