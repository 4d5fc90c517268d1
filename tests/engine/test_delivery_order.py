"""The order of asks is the same live and after any interruption, for every shape of the corpus."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, EvictionPolicy, RunRef
from durable_nb.errors import NonRetryableException, TaskRunError
from tests.engine import operation_shapes  # noqa: F401  it adds to the corpus
from tests.engine.helpers import Bench, reach, view, wait_until
from tests.engine.shapes import SHAPES, Kin, Shape, act

INTERRUPTIONS = ["close", "crash", "hasty close", "hasty crash"]


class Performance:
    """One run of a shape, played step by step on engines that come and go."""

    def __init__(self, bench: Bench, shape: Shape, *, evicts: bool = False) -> None:
        self.bench = bench
        self.shape = shape
        self.policy = EvictionPolicy(ttl=None) if not evicts else EvictionPolicy()
        self.durable = self.engine()
        self.ref: RunRef[Any] = self.durable.tasks["performance"].run(wait_for_result=False)

    def engine(self) -> Durable:
        durable = self.bench.durable()

        @durable.durable_task(eviction_policy=self.policy)
        async def gate(input: str, ctx: DurableContext) -> str:
            await ctx.aio_wait_for_event(input)
            return input

        @durable.durable_task(eviction_policy=self.policy)
        async def fails(input: str, ctx: DurableContext) -> str:
            await ctx.aio_wait_for_event(input)
            raise NonRetryableException(f"{input} failed")

        @durable.task()
        async def quick(input: str, ctx: Context) -> str:
            return input

        @durable.durable_task(eviction_policy=self.policy)
        async def performance(input: Any, ctx: DurableContext) -> Any:
            result = await self.shape.body(ctx, Kin(gate, fails, quick))
            await ctx.aio_wait_for_event("end")
            return result

        return durable

    def act(self, action: str) -> None:
        """Do one action of the script."""
        act(self.durable, action, advance=self.bench.clock.advance)

    def settled(self, step: int) -> None:
        """Wait until the asks of the steps up to this one are in the log, those of the children too, and nobody moves."""
        asks = [ask for _, asks in self.shape.script[: step + 1] for ask in asks]
        wait_until(lambda: len(self.bench.asks(self.ref)) >= len(asks), what=f"{asks}, but it asked {self.bench.asks(self.ref)}")
        blocked = view(self.durable, self.ref).blocked_reason
        assert blocked is None, blocked
        if any(ask in {"gate", "fails"} for ask in asks):
            wait_until(self.children_wait, what="the children's waits")

    def children_wait(self) -> bool:
        """Whether every durable child has asked."""
        sql = """SELECT count(*) FROM v_runs WHERE kind = 'durable_task' AND task != 'performance'
                 AND id NOT IN (SELECT run_id FROM v_checkpoints)"""
        return self.bench.rows(sql) == [(0,)]

    def interrupt(self, how: str) -> None:
        if "close" in how:
            self.durable.close()
        else:
            self.bench.crash()
        self.durable = self.engine()
        self.durable.open()

    def is_evicted_with_age(self) -> bool:
        """Let half an hour pass; tell whether the run is evicted."""
        self.bench.clock.advance(30 * 60)
        return view(self.durable, self.ref).is_evicted

    def end(self) -> list[tuple[int, int, str]]:
        """Check the asks against the script, end the run, check its result; give the asks."""
        asks = self.bench.asks(self.ref)
        assert [node for _, node, _ in asks] == list(range(1, len(asks) + 1))
        for (_, _, said), meant in zip(asks, self.shape.asks, strict=True):
            assert meant in said
        self.durable.event.push("end")
        reach(self.durable, self.ref, lambda run: run.is_ended or run.blocked_reason)
        assert view(self.durable, self.ref).blocked_reason is None
        assert self.durable.runs.get_run_ref(self.ref.workflow_run_id).result() == self.shape.result
        assert self.bench.asks(self.ref) == asks
        return asks


def play(bench: Bench, shape: Shape, interruption: str = "", at: set[int] | None = None) -> list[tuple[int, int, str]]:
    """Play a shape; interrupt it after the steps `at`, before it has settled where the interruption is hasty."""
    performance = Performance(bench, shape)
    for step, (action, _) in enumerate(shape.script):
        performance.act(action)
        is_here = at is not None and step in at
        if is_here and "hasty" in interruption:
            performance.interrupt(interruption)
        performance.settled(step)
        if is_here and "hasty" not in interruption:
            performance.interrupt(interruption)
    return performance.end()


def test_the_corpus_is_large_enough() -> None:
    assert len(SHAPES) >= 16


@pytest.mark.parametrize("name", SHAPES)
def test_live(bench: Bench, name: str) -> None:
    assert len(play(bench, SHAPES[name])) == len(SHAPES[name].asks)


POINTS = [(name, step) for name, shape in SHAPES.items() for step in range(len(shape.script))]


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize(("name", "step"), POINTS)
def test_interrupted_at_one_point(bench: Bench, name: str, step: int, interruption: str) -> None:
    play(bench, SHAPES[name], interruption, {step})


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_interrupted_at_every_point(bench: Bench, name: str, interruption: str) -> None:
    play(bench, SHAPES[name], interruption, set(range(len(SHAPES[name].script))))


@pytest.mark.parametrize("name", SHAPES)
def test_evicted_at_every_point(bench: Bench, name: str) -> None:
    """The shape moves on an evicted run at every step: 30 minutes of waiting go by on shapes that do not sleep."""
    shape = SHAPES[name]
    if any(ask.startswith(("sleep", "wait")) for ask in shape.asks):
        pytest.skip("its own sleeps would end while it ages")
    performance = Performance(bench, shape, evicts=True)
    for step, (action, _) in enumerate(shape.script):
        performance.act(action)
        performance.settled(step)
        wait_until(performance.is_evicted_with_age, what=f"eviction after step {step}")
    performance.end()
    assert view(performance.durable, performance.ref).invocation_count > len(shape.script) / 2
    assert view(performance.durable, performance.ref).retry_count == 0


def test_as_completed_over_coroutines_is_refused_with_the_way_out(bench: Bench) -> None:
    """It starts coroutines in the order of a set, another one in each process; over tasks (in `shapes`) it replays the same."""
    durable = bench.durable()

    @durable.durable_task()
    async def body(input: None, ctx: DurableContext) -> Any:
        asks = [ctx.aio_sleep_for(timedelta(0)) for _ in range(3)]
        try:
            return [await done for done in asyncio.as_completed(asks)]
        finally:
            for ask in asks:
                ask.close()

    with pytest.raises(TaskRunError, match=r"start them first, as in as_completed\(\[asyncio\.create_task"):
        body.run()
