"""Reset and fork: a run's past is kept up to a checkpoint, and asked afresh from there, in the same run or in a new one."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import DeclarationError, UnknownCheckpointError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until


class Steps:
    """A task of five checkpoints that counts what was executed, and draws by chance between them."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def declare(self, durable: Durable) -> Task[Any]:
        @durable.task()
        async def child(input: str, ctx: Context) -> str:
            self.ran.append(input)
            return f"{input}{self.ran.count(input)}"

        def note(name: str) -> str:
            self.ran.append(name)
            return f"{name}{self.ran.count(name)}"

        @durable.durable_task(name="steps")
        async def steps(input: Any, ctx: DurableContext) -> list[Any]:
            first = ctx.random()
            done = [await ctx.aio_memo(note, str, "m"), await child.aio_run("a")]
            middle = str(ctx.uuid4())
            done.append(await ctx.aio_wait_for_event("go"))
            done.append(await child.aio_run("b"))
            last = ctx.random()
            await ctx.aio_wait_for_event("end")
            return [*done, first, middle, last]

        return steps


@pytest.fixture
def steps() -> Steps:
    return Steps()


def walk(bench: Bench, durable: Durable, steps: Steps) -> Any:
    """Start it and bring it to its last wait."""
    ref = steps.declare(durable).run("in", wait_for_result=False)
    bench.asked(ref, 3)
    durable.event.push("go", "went")
    bench.asked(ref, 5)
    return ref


STATES = ["running", "evicted", "crashed", "completed", "failed", "cancelled", "blocked"]


def bring(bench: Bench, durable: Durable, ref: Any, state: str, steps: Steps) -> Durable:
    if state == "evicted":
        wait_until(lambda: durable.runs.evict(ref))
    elif state == "crashed":
        bench.crash()
        durable = bench.durable()
        steps.declare(durable)
        durable.open()
        reach(durable, ref, lambda run: run.invocation_count == 2 and not run.is_evicted)
    elif state == "completed":
        durable.event.push("end")
        ref.result()
    elif state == "cancelled":
        durable.runs.cancel(ref)
        reach(durable, ref, lambda run: run.status == "CANCELLED")
    elif state in ("failed", "blocked"):
        durable.close()
        durable = bench.durable()

        @durable.durable_task(name="steps")
        async def other(input: Any, ctx: DurableContext) -> None:
            if state == "failed":
                raise ValueError
            await ctx.aio_sleep_for(timedelta(days=1))

        durable.event.push("end")
        reach(durable, ref, lambda run: run.is_ended or run.blocked_reason)
        steps.declare(durable)
    return durable


@pytest.mark.parametrize("state", STATES)
def test_a_reset_asks_the_node_and_what_follows_afresh(bench: Bench, durable: Durable, steps: Steps, state: str) -> None:
    ref = walk(bench, durable, steps)
    durable = bring(bench, durable, ref, state, steps)
    assert durable.runs.reset_durable_task(ref, 3).workflow_run_id == ref.workflow_run_id
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.event.push("go", "again")
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    durable.event.push("end")
    result = durable.runs.get_result(ref)
    assert result[:4] == ["m1", "a1", "again", "b2"]
    assert steps.ran == ["m", "a", "b", "b"]
    run = view(durable, ref)
    assert (run.status, run.branch, run.retry_count, run.error, run.blocked_reason) == ("COMPLETED", 2, 0, None, None)


@pytest.mark.parametrize("state", STATES)
def test_a_fork_shares_what_lies_before_and_leaves_the_original(bench: Bench, durable: Durable, steps: Steps, state: str) -> None:
    ref = walk(bench, durable, steps)
    durable = bring(bench, durable, ref, state, steps)
    before = (bench.asks(ref), view(durable, ref))
    fork = durable.runs.fork(ref, 4)
    wait_until(lambda: bench.open_waits(fork) == ["end"])
    assert bench.asks(ref) == before[0]
    assert view(durable, ref) == before[1]
    durable.event.push("end")
    assert fork.result()[:4] == ["m1", "a1", "went", "b2"]
    run = view(durable, fork)
    assert (run.parent, run.input, run.retry_count, run.branch) == (None, '"in"', 0, 1)


def test_a_fork_may_replace_an_outcome(bench: Bench, durable: Durable, steps: Steps) -> None:
    ref = walk(bench, durable, steps)
    forks = {
        2: durable.runs.fork(ref, 2, override="A"),
        3: durable.runs.fork(ref, 3, override={"was": "changed"}),
        5: durable.runs.fork(ref, 5, override="ended"),
    }
    wait_until(lambda: bench.open_waits(forks[2]) == ["go"])
    durable.event.push("go", "anew")
    wait_until(lambda: bench.open_waits(forks[2]) == bench.open_waits(forks[3]) == ["end"])
    durable.event.push("end")
    assert forks[2].result()[:4] == ["m1", "A", "anew", "b3"]
    assert forks[3].result()[:4] == ["m1", "a1", {"was": "changed"}, "b2"]
    assert forks[5].result()[:4] == ref.result()[:4] == ["m1", "a1", "went", "b1"]


def test_chance_is_the_same_in_the_shared_part(bench: Bench, durable: Durable, steps: Steps) -> None:
    """And stays what it is when the fork, its fork, or a branch is replayed after a crash."""
    ref = walk(bench, durable, steps)
    fork = durable.runs.fork(ref, 3)
    wait_until(lambda: bench.open_waits(fork) == ["go"])
    durable.event.push("go", "forked")
    wait_until(lambda: bench.open_waits(fork) == ["end"])
    second = durable.runs.fork(fork, 5)
    durable.runs.reset_durable_task(ref, 5)
    for run in (ref, fork, second):
        wait_until(lambda run=run: bench.open_waits(run) == ["end"])  # type: ignore[misc]
    durable.event.push("end")
    live = [run.result()[4:] for run in (ref, fork, second)]
    bench.crash()
    other = bench.durable()
    steps.declare(other)
    assert [other.runs.replay(run).result()[4:] for run in (ref, fork, second)] == live
    [first, middle, last], [fork_first, fork_middle, fork_last], [second_first, second_middle, second_last] = live
    assert first == fork_first == second_first
    assert middle != fork_middle == second_middle  # drawn for node 3, which the fork asks afresh
    assert len({last, fork_last, second_last}) == 3


def test_a_draw_before_a_node_that_is_asked_afresh_is_replayed_the_same(bench: Bench, durable: Durable) -> None:
    """A retry drops node 1 and keeps node 2: what is drawn before node 1 may not depend on whether it is recorded already."""
    failures = [1]

    def declare(durable: Durable) -> Task[Any]:
        @durable.task()
        async def child(input: float, ctx: Context) -> float:
            wait_until(lambda: bench.count("checkpoint") >= 2)
            if failures and failures.pop():
                raise ValueError
            return input

        @durable.durable_task(retries=1)
        async def parent(input: Any, ctx: DurableContext) -> list[float]:
            drawn = ctx.random()
            got, _ = await asyncio.gather(child.aio_run(drawn), ctx.aio_wait_for_event("kept"))
            await ctx.aio_wait_for_event("end")
            return [got, drawn]

        return parent

    ref = declare(durable).run(wait_for_result=False)
    reach(durable, ref, lambda run: run.retry_count == 1)
    durable.event.push("kept")
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    bench.crash()
    second = bench.durable()
    declare(second)
    second.event.push("end")
    got, drawn = second.runs.get_result(ref)
    assert got == drawn


@pytest.mark.parametrize("node", [1, 2, 3, 4, 5])
def test_every_node_can_be_reset_to(bench: Bench, durable: Durable, steps: Steps, node: int) -> None:
    ref = walk(bench, durable, steps)
    durable.runs.reset_durable_task(ref, node)
    if node <= 3:
        wait_until(lambda: bench.open_waits(ref) == ["go"])
        durable.event.push("go", "went")
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    assert bench.rows("SELECT min(node) FROM checkpoint WHERE branch = 2") == [(node,)]
    durable.event.push("end")
    expected = ["m2" if node == 1 else "m1", "a2" if node <= 2 else "a1", "went", "b2" if node <= 4 else "b1"]
    assert ref.result()[:4] == expected


def test_branches_off_branches(bench: Bench, durable: Durable, steps: Steps) -> None:
    ref = walk(bench, durable, steps)
    durable.runs.reset_durable_task(ref, 3)  # branch 2
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.event.push("go", "second")
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    durable.runs.reset_durable_task(ref, 5)  # branch 3, off 2
    wait_until(lambda: view(durable, ref).branch == 3 and bench.open_waits(ref) == ["end"])
    durable.runs.reset_durable_task(ref, 4, branch_id=1)  # branch 4, off the first
    wait_until(lambda: view(durable, ref).branch == 4 and bench.open_waits(ref) == ["end"])
    durable.event.push("end")
    assert ref.result()[:4] == ["m1", "a1", "went", "b3"]
    durable.runs.reset_durable_task(ref, 5, branch_id=3)
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    durable.event.push("end")
    assert ref.result()[:4] == ["m1", "a1", "second", "b2"]


def test_unknown_places_are_refused(bench: Bench, durable: Durable, steps: Steps) -> None:
    ref = walk(bench, durable, steps)
    regular = durable.runs.list(task="child", include_children=True)[0].id
    before = bench.count("journal")
    with pytest.raises(UnknownCheckpointError, match="has no node 6 on branch 1: its nodes go from 1 to 5"):
        durable.runs.reset_durable_task(ref, 6)
    with pytest.raises(UnknownCheckpointError, match="has no node 0 on branch 1"):
        durable.runs.fork(ref, 0)
    with pytest.raises(UnknownCheckpointError, match="has no branch 7; its newest is 1"):
        durable.runs.reset_durable_task(ref, 1, branch_id=7)
    with pytest.raises(
        UnknownCheckpointError, match="is a regular task's, which has no checkpoints: it can be replayed, not reset"
    ):
        durable.runs.reset_durable_task(regular, 1)
    for node, says in (
        (2**63, "node_id has 64 bits: no run has so many"),
        (-(10**5000), "node_id has 16610 bits"),
        ("3", "node_id='3' is no number: give an int, they begin at 1"),
        (3.0, "node_id=3.0 is no number"),
        (True, "node_id=True is no number"),
        (None, "node_id=None is no number"),
    ):
        with pytest.raises(UnknownCheckpointError, match=says):
            durable.runs.reset_durable_task(ref, node)  # type: ignore[arg-type]
        with pytest.raises(UnknownCheckpointError, match=says):
            durable.runs.fork(ref, node, override="x")  # type: ignore[arg-type]
    with pytest.raises(UnknownCheckpointError, match="branch_id has 65 bits"):
        durable.runs.fork(ref, 1, branch_id=2**64)
    assert bench.count("journal") == before


def test_an_outcome_of_the_engine_cannot_be_replaced(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def sleep(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_sleep_for(timedelta(days=1))

    ref = sleep.run(wait_for_result=False)
    bench.asked(ref, 1)
    with pytest.raises(DeclarationError, match="is a sleep, whose outcome is the engine's own: fork it without an override"):
        durable.runs.fork(ref, 1, override=3)


# ---------------------------------------------------------------- what goes on meanwhile


def test_unfinished_children_beyond_the_cut_are_cancelled(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def child(input: str, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event(input)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        kept = asyncio.create_task(child.aio_run("kept"))
        await asyncio.sleep(0)  # it asks first
        await ctx.aio_wait_for_event("go")
        await asyncio.gather(child.aio_run("gone"), child.aio_run("free", cancel_with_parent=False))
        return [await kept]

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.event.push("go")
    bench.asked(ref, 4)
    wait_until(lambda: len(bench.rows("SELECT 1 FROM v_waits")) == 3)
    durable.runs.reset_durable_task(ref, 2)
    gone = wait_until(lambda: [run for run in durable.runs.list(parent=ref) if run.is_ended])
    assert [(run.input, run.status) for run in gone] == [('"gone"', "CANCELLED")]
    assert gone[0].error is not None
    assert gone[0].error.message.endswith(f"was cancelled: its parent {ref.workflow_run_id} was reset.")
    assert sorted(run.input for run in durable.runs.list(parent=ref, status="RUNNING")) == ['"free"', '"kept"']


def test_cancelling_a_fork_leaves_the_children_of_the_original(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("child")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> Any:
        below = asyncio.create_task(child.aio_run())
        await asyncio.sleep(0)
        await ctx.aio_wait_for_event("go")
        return await below

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    forks = [durable.runs.fork(ref, 2) for _ in range(2)]
    for fork in forks:
        wait_until(lambda fork=fork: bench.open_waits(fork) == ["go"])  # type: ignore[misc]
    durable.runs.cancel(forks[0])
    reach(durable, forks[0], lambda run: run.status == "CANCELLED")
    assert [run.status for run in durable.runs.list(task="child", include_children=True)] == ["RUNNING"]
    durable.event.push("go")
    durable.event.push("child", "shared")
    assert ref.result() == forks[1].result() == "shared"


def test_a_fork_keeps_the_end_of_a_sleep(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> float:
        sleep = asyncio.create_task(ctx.aio_sleep_for(timedelta(hours=24)))
        await asyncio.sleep(0)
        await ctx.aio_wait_for_event("go")
        return (await sleep).elapsed.total_seconds() / 3600

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    settle(durable)
    bench.clock.advance(timedelta(hours=23))
    fork = durable.runs.fork(ref, 2, override="went")
    settle(durable)
    assert bench.open_waits(fork) == ["sleep:1d"]
    bench.clock.advance(timedelta(hours=1))
    assert fork.result() == 24


def test_the_old_owner_writes_nothing_after_a_reset(bench: Bench, durable: Durable) -> None:
    gate, inside, made = threading.Event(), list[int](), list[int]()

    async def slow() -> None:
        inside.append(1)
        if len(inside) == 1:
            try:
                await opened(gate)
            finally:
                made.append(1)

    @durable.durable_task()
    async def work(input: Any, ctx: DurableContext) -> int:
        try:
            await ctx.aio_now()
            await ctx.aio_memo(slow)
        finally:
            await ctx.aio_memo(lambda: made.append(2))
        return ctx.invocation_count

    ref = work.run(wait_for_result=False)
    wait_until(lambda: inside)
    durable.runs.reset_durable_task(ref, 1)
    assert ref.result() == 2
    assert made.count(2) == 1
    gate.set()
    assert {branch for branch, node, _ in bench.asks(ref) if node > 1} == {2}


def test_an_outcome_on_its_way_during_a_reset_is_of_the_old_branch(bench: Bench, durable: Durable) -> None:
    ran: list[int] = []

    @durable.task()
    async def child(input: Any, ctx: Context) -> int:
        ran.append(1)
        return len(ran)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        at = await ctx.aio_wait_for_event("go")
        return [at, await child.aio_run()]

    refs = [parent.run(wait_for_result=False) for _ in range(20)]
    for ref in refs:
        bench.asked(ref, 1)
    durable.event.push("go", 1)
    for ref in refs:
        durable.runs.reset_durable_task(ref, 1)  # the child ends, or not, before it, with it, or after it
    for ref in refs:
        wait_until(lambda ref=ref: bench.open_waits(ref) == ["go"])  # type: ignore[misc]
    durable.event.push("go", 2)
    for ref in refs:
        at, number = ref.result()
        assert (at, number in range(1, len(ran) + 1)) == (2, True)


def test_a_reset_through_another_engine_reaches_the_owner(bench: Bench) -> None:
    a, b = bench.durable(clock=SystemClock()), bench.durable(clock=SystemClock())
    left: list[str] = []

    @a.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        try:
            return [ctx.invocation_count, await ctx.aio_wait_for_event("go")]
        finally:
            left.append("out")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    b.runs.reset_durable_task(ref, 1)
    wait_until(lambda: left == ["out"])
    wait_until(lambda: bench.rows("SELECT 1 FROM v_waits WHERE branch = 2"))
    b.event.push("go", "went")
    assert b.runs.get_result(ref) == [2, "went"]


def test_a_reset_undoes_a_cancel_that_was_asked_for(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def stubborn(input: Any, ctx: DurableContext) -> Any:
        try:
            return await ctx.aio_wait_for_event("go")
        except asyncio.CancelledError:
            await ctx.aio_sleep_for(timedelta(days=1))

    ref = stubborn.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.runs.cancel(ref)
    bench.asked(ref, 2)
    durable.runs.reset_durable_task(ref, 1)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    bench.clock.advance(timedelta(days=2))
    settle(durable)
    assert view(durable, ref).cancelled_at is None
    durable.event.push("go", "went")
    assert ref.result() == "went"


def test_a_fork_of_a_failed_bulk_keeps_gaps_and_failures(bench: Bench, durable: Durable) -> None:
    """A fork copies handled failures too, and nodes that a retry dropped are not there."""
    failures = [1]

    @durable.task()
    async def child(input: int, ctx: Context) -> int:
        if input == 2 and failures and failures.pop():
            raise ValueError("two")
        if input == 3:
            raise ValueError("three")
        return input

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        done: list[Any] = [await child.aio_run(1), await child.aio_run(2)]
        try:
            await child.aio_run(3)
        except TaskRunError as error:
            done.append(error.exc)
        return [*done, await ctx.aio_wait_for_event("go")]

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    fork = durable.runs.fork(ref, 4)
    wait_until(lambda: bench.open_waits(fork) == ["go"])
    durable.event.push("go", "went")
    assert fork.result() == ref.result() == [1, 2, "three", "went"]
    assert bench.rows("SELECT count(*) FROM run WHERE task = 'child'") == [(4,)]


def test_restore_takes_an_evicted_run_into_memory(bench: Bench, durable: Durable, steps: Steps) -> None:
    ref = walk(bench, durable, steps)
    assert durable.runs.restore(ref) is False
    wait_until(lambda: durable.runs.evict(ref))
    assert view(durable, ref).is_evicted
    assert durable.runs.restore(ref) is True
    run = reach(durable, ref, lambda run: not run.is_evicted)
    assert (run.status, run.invocation_count, run.retry_count) == ("RUNNING", 2, 0)
    wait_until(lambda: run.number in durable.engine.executions)
    durable.event.push("end")
    assert ref.result()[:4] == ["m1", "a1", "went", "b1"]


def test_what_does_not_wait_is_not_evicted(durable: Durable) -> None:
    gate, inside = threading.Event(), list[int]()

    @durable.task()
    async def work(input: Any, ctx: Context) -> None:
        inside.append(1)
        await opened(gate)

    ref = work.run(wait_for_result=False)
    wait_until(lambda: inside)
    assert durable.runs.evict(ref) is False
    gate.set()
    ref.result()


@pytest.mark.parametrize("how", ["reset", "fork"])
def test_what_a_cancel_brought_about_is_not_inherited(bench: Bench, durable: Durable, how: str) -> None:
    """Neither the clean-up's nodes, nor the failures of children that were cancelled with the run."""

    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("child")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> Any:
        try:
            return await asyncio.gather(child.aio_run(), ctx.aio_wait_for_event("go"))
        except asyncio.CancelledError:
            for _ in range(3):
                await ctx.aio_now()

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.runs.cancel(ref)
    reach(durable, ref, lambda run: run.status == "CANCELLED")
    steer = durable.runs.reset_durable_task if how == "reset" else durable.runs.fork
    with pytest.raises(UnknownCheckpointError, match="belongs to the clean-up after its cancel, which came after node 2"):
        steer(ref, 4)
    with pytest.raises(UnknownCheckpointError, match="belongs to the clean-up"):
        durable.runs.fork(ref, 3, override=1)
    again = steer(ref, 3)
    wait_until(lambda: len(bench.rows("SELECT 1 FROM v_waits")) == 2)
    for key in ("child", "go"):
        durable.event.push(key, key)
    assert again.result() == ["child", "go"]
