"""A durable task's retry asks afresh what failed, and keeps what succeeded and what the code handled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.errors import FailedTaskRunExceptionGroup
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, view, wait_until
from tests.engine.story import LEAVINGS, Story


class Children:
    """Children that count how often each ran, and fail as often as they are told to."""

    def __init__(self, durable: Durable, **failures: int) -> None:
        self.ran: list[str] = []
        left = dict(failures)

        @durable.task()
        async def child(input: str, ctx: Context) -> str:
            self.ran.append(input)
            if left.get(input, 0) > 0:
                left[input] -= 1
                raise ValueError(f"{input} failed")
            return input.upper()

        self.child = child


def test_a_retry_asks_the_failed_child_afresh_and_keeps_the_others(bench: Bench, durable: Durable) -> None:
    children = Children(durable, b=2)
    memos: list[str] = []

    def note() -> str:
        memos.append("m")
        return "memo"

    @durable.durable_task(retries=2)
    async def parent(input: Any, ctx: DurableContext) -> list[str]:
        noted = await ctx.aio_memo(note)
        return [noted] + [await children.child.aio_run(name) for name in "abc"]

    ref = parent.run(wait_for_result=False)
    assert ref.result() == ["memo", "A", "B", "C"]
    assert children.ran == ["a", "b", "b", "b", "c"]
    assert memos == ["m"]
    assert view(durable, ref).retry_count == 2
    assert [(branch, node) for branch, node, _ in bench.asks(ref)] == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 4)]


def test_a_failed_memo_runs_again_in_the_retry(durable: Durable) -> None:
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("busy")
        return "read"

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> str:
        return str(await ctx.aio_memo(flaky))

    assert parent.run() == "read"
    assert len(calls) == 2


def test_a_failure_that_was_handled_stays(durable: Durable) -> None:
    children = Children(durable, a=9)

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> list[str]:
        handled = ""
        try:
            await children.child.aio_run("a")
        except TaskRunError as error:
            handled = error.exc
        b = await children.child.aio_run("b")
        if ctx.retry_count == 0:
            raise KeyError("its own fault")
        return [handled, b]

    assert parent.run() == ["a failed", "B"]
    assert children.ran == ["a", "b"]


async def as_it_is(ctx: DurableContext, child: Task[Any]) -> Any:
    return await child.aio_run("b")


async def as_a_cause(ctx: DurableContext, child: Task[Any]) -> Any:
    try:
        return await child.aio_run("b")
    except TaskRunError as error:
        raise RuntimeError("wrapped") from error


async def as_a_context(ctx: DurableContext, child: Task[Any]) -> Any:
    try:
        return await child.aio_run("b")
    except TaskRunError:
        raise RuntimeError("while handling")  # noqa: B904  the context alone tells


async def in_a_task_group(ctx: DurableContext, child: Task[Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(child.aio_run("b"))
    return task.result()


async def in_a_deep_group(ctx: DurableContext, child: Task[Any]) -> Any:
    try:
        return await as_a_cause(ctx, child)
    except RuntimeError as error:
        raise ExceptionGroup("outer", [ValueError("other"), ExceptionGroup("inner", [error])]) from None


@pytest.mark.parametrize("form", [as_it_is, as_a_cause, as_a_context, in_a_task_group, in_a_deep_group])
def test_the_failed_checkpoint_is_found_however_it_escapes(durable: Durable, form: Any) -> None:
    children = Children(durable, b=1)

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> list[str]:
        return [await children.child.aio_run("a"), await form(ctx, children.child)]

    assert parent.run() == ["A", "B"]
    assert children.ran == ["a", "b", "b"]


def test_several_failed_children_are_all_asked_afresh(durable: Durable) -> None:
    children = Children(durable, b=1, d=2)

    @durable.durable_task(retries=2)
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        return await children.child.aio_run_many([children.child.create_bulk_run_item(input=name) for name in "abcd"])

    assert parent.run() == ["A", "B", "C", "D"]
    assert sorted(children.ran) == ["a", "b", "b", "c", "d", "d", "d"]


def test_bulk_failures_are_a_group_in_a_durable_parent(durable: Durable) -> None:
    children = Children(durable, a=1, c=1)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[str]:
        try:
            await children.child.aio_run_many([children.child.create_bulk_run_item(input=name) for name in "abc"])
        except FailedTaskRunExceptionGroup as group:
            return [str(error) for error in group.exceptions]
        return []

    assert parent.run() == ["ValueError: a failed", "ValueError: c failed"]


def test_what_was_asked_before_the_failure_came_is_kept(bench: Bench, durable: Durable) -> None:
    """The sibling that was still running when the failure came is waited for, not spawned again."""
    children = Children(durable, b=1)

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        return list(await asyncio.gather(ctx.aio_wait_for_event("go"), *map(children.child.aio_run, "ab")))

    ref = parent.run(wait_for_result=False)
    reach(durable, ref, lambda run: run.retry_count == 1)
    bench.asked(ref, 4)
    durable.event.push("go", "went")
    assert ref.result() == ["went", "A", "B"]
    assert sorted(children.ran) == ["a", "b", "b"]


def test_what_was_asked_after_the_failure_came_is_dropped(durable: Durable) -> None:
    children = Children(durable, b=1)

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> list[str]:
        failure = None
        try:
            b = await children.child.aio_run("b")
        except TaskRunError as error:
            failure, b = error, ""
        c = await children.child.aio_run("c")
        if failure:
            raise failure
        return [b, c]

    assert parent.run() == ["B", "C"]
    assert children.ran == ["b", "c", "b", "c"]


def test_without_a_failed_checkpoint_everything_is_kept(bench: Bench, durable: Durable) -> None:
    children = Children(durable)

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        slept = await ctx.aio_sleep_for(timedelta(hours=1))
        a = await children.child.aio_run("a")
        if ctx.retry_count == 0:
            raise ValueError("its own fault")
        return [slept.duration.total_seconds(), a]

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 1)
    bench.clock.advance(timedelta(hours=1))
    assert ref.result() == [3600, "A"]
    assert children.ran == ["a"]
    assert len(bench.asks(ref)) == 2


def test_a_retry_leaves_no_open_wait_of_what_it_cut(bench: Bench, durable: Durable) -> None:
    @durable.task()
    async def fail(input: Any, ctx: Context) -> None:
        raise ValueError

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> None:
        if ctx.retry_count:
            await ctx.aio_wait_for_event("second")
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.aio_wait_for_event("kept"))
            group.create_task(fail.aio_run())

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: "second" in bench.open_waits(ref) or view(durable, ref).blocked_reason)
    assert "kept" not in bench.open_waits(ref)


def interrupted(bench: Bench) -> None:
    bench.crash()


@pytest.mark.parametrize("leave", [None, interrupted])
def test_what_an_attempt_gave_up_is_asked_afresh_by_the_next(bench: Bench, leave: Callable[[Bench], None] | None) -> None:
    """Else a second attempt that takes another way would await what nothing satisfies any more."""

    def engine() -> Durable:
        durable = bench.durable()

        @durable.durable_task(retries=1)
        async def gives_up(input: Any, ctx: DurableContext) -> Any:
            first = asyncio.create_task(ctx.aio_wait_for_event("first"))
            await ctx.aio_wait_for_event("second")
            if ctx.retry_count == 0:
                first.cancel()
                await asyncio.wait([first])
                raise ValueError("the first attempt fails")
            return await first

        return durable

    durable = engine()
    ref = durable.tasks["gives_up"].run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.event.push("second")
    wait_until(lambda: (2, 2, "event first") in bench.asks(ref))
    if leave is not None:
        leave(bench)
        durable = engine().open()
    durable.event.push("first", "there")
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == "there"
    assert bench.asks(ref) == [(1, 1, "event second"), (1, 2, "event first"), (2, 2, "event first")]


# ---------------------------------------------------------------- failures that the code had not seen


class Pair:
    """Two children that fail once, in the order and at the moments that the test says."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.bench = bench
        self.ran: list[str] = []

        def declare(durable: Durable) -> None:
            @durable.durable_task()
            async def gate(input: str, ctx: DurableContext) -> str:
                self.ran.append(input)
                if self.ran.count(input) == 1:
                    await ctx.aio_wait_for_event(input)
                    raise ValueError(f"{input} failed")
                return input.upper()

        async def body(_: Any, ctx: DurableContext) -> Any:
            gate = ctx._engine.registry["gate"]
            try:
                return await asyncio.gather(gate.aio_run("a"), gate.aio_run("b"))
            except TaskRunError:
                await ctx.aio_wait_for_event("go on")
                raise

        self.story = Story(bench, body, declare=declare, **options)
        wait_until(lambda: len(bench.rows("SELECT 1 FROM v_waits WHERE task = 'gate'")) == 2, what="two children")

    def fail(self, name: str) -> None:
        """Let a child fail, and wait until its parent has that in the log."""
        self.story.push(name)
        failed = "SELECT 1 FROM v_checkpoints WHERE task = 'story' AND error IS NOT NULL AND ask LIKE ?"
        wait_until(lambda: self.bench.rows(failed, f'gate "{name}"%'), what=f"the failure of {name}")
        if name == "a":
            wait_until(lambda: self.bench.open_waits(self.story.ref) == ["go on"], what="what follows the first failure")

    def reach(self, retry_count: int) -> None:
        reach(self.story.durable, self.story.ref, lambda run: run.retry_count == retry_count)


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_failure_that_a_gather_has_swallowed_is_asked_afresh(bench: Bench, how: str) -> None:
    pair = Pair(bench, retries=1)
    pair.fail("a")
    pair.fail("b")
    pair.story.leave(how)
    pair.story.push("go on")
    assert pair.story.result() == ["A", "B"]
    assert sorted(pair.ran) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("how", ["", "close", "crash"])
def test_a_failure_that_comes_while_the_retry_is_put_off_is_asked_afresh(bench: Bench, how: str) -> None:
    pair = Pair(bench, retries=1, backoff_factor=60.0)
    pair.fail("a")
    pair.story.push("go on")
    pair.reach(1)
    pair.fail("b")
    pair.story.leave(how)
    bench.clock.advance(100)
    assert pair.story.result() == ["A", "B"]
    assert bench.rows("SELECT input, count(*) FROM v_runs WHERE task = 'gate' GROUP BY input") == [('"a"', 2), ('"b"', 2)]


def test_a_failure_that_comes_after_the_end_is_asked_afresh_by_a_replay(bench: Bench) -> None:
    pair = Pair(bench)
    pair.fail("a")
    pair.story.push("go on")
    reach(pair.story.durable, pair.story.ref, lambda run: run.status == "FAILED")
    pair.fail("b")
    pair.story.durable.runs.replay(pair.story.id)
    assert pair.story.result() == ["A", "B"]
    assert sorted(pair.ran) == ["a", "a", "b", "b"]


def test_a_success_that_the_code_had_not_seen_is_kept(bench: Bench) -> None:
    ran: list[str] = []

    def declare(durable: Durable) -> None:
        @durable.durable_task()
        async def gate(input: str, ctx: DurableContext) -> str:
            if ctx.invocation_count == 1:
                ran.append(input)
            await ctx.aio_wait_for_event(input)
            if ran.count("a") == 1 and input == "a":
                raise ValueError("a failed")
            return input.upper()

    async def body(_: Any, ctx: DurableContext) -> Any:
        gate = ctx._engine.registry["gate"]
        try:
            return await asyncio.gather(gate.aio_run("a"), gate.aio_run("b"))
        except TaskRunError:
            await ctx.aio_wait_for_event("go on")
            raise

    story = Story(bench, body, declare=declare, retries=1)
    wait_until(lambda: len(bench.rows("SELECT 1 FROM v_waits WHERE task = 'gate'")) == 2, what="two children")
    story.push("a")
    story.asked(3)
    story.push("b")
    story.push("go on")
    reach(story.durable, story.ref, lambda run: run.retry_count == 1)
    wait_until(lambda: len(bench.rows("SELECT 1 FROM v_waits WHERE task = 'gate'")) == 1, what="the second a")
    story.push("a")
    assert story.result() == ["A", "B"]
    assert sorted(ran) == ["a", "a", "b"]
