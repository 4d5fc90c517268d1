"""Continuing as new: the same run, a new input, an empty history."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import Durable, DurableContext, TaskRunError
from durable_nb.errors import ContinuedAsNew, InputValidationError
from durable_nb.log import checkpoints
from tests.engine.helpers import Bench, closing_log, reach, settle, view, wait_until
from tests.engine.story import LEAVINGS, Story


class Count(BaseModel):
    number: int


async def counting(input: Any, ctx: DurableContext) -> Any:
    """Wait for `go`, then continue with one more; give what is known at 3."""
    got = await ctx.aio_wait_for_event("go")
    number = (input or 0) + 1
    if number == 3:
        return [number, got, ctx.workflow_run_id, ctx.retry_count]
    return ctx.continue_as_new(number)


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_the_run_goes_on_under_its_id_with_an_empty_history(bench: Bench, how: str) -> None:
    story = Story(bench, counting)
    for number in (1, 2, 3):
        story.asked(number).leave(how)
        story.push("go", number)
    assert story.result() == [3, 3, story.id, 0]
    assert bench.asks(story.ref) == [(branch, 1, "event go") for branch in (1, 2, 3)]
    assert bench.count("run") - len(bench.rows("SELECT 1 FROM run WHERE task = 'settle'")) == 1


def test_a_waiting_parent_waits_on(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def child(input: int, ctx: DurableContext) -> int:
        if input == 5:
            return input
        return ctx.continue_as_new(input + 1)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> int:
        return int(await child.aio_run(0))

    assert parent.run() == 5
    assert durable.runs.list(task="child", parent=durable.runs.list(task="parent")[0].id)[0].status == "COMPLETED"


def test_the_input_is_validated_before_and_the_run_goes_on_where_it_is(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def task(input: Count, ctx: DurableContext) -> str:
        if input.number:
            return f"{type(input).__name__} {input.number}"
        with pytest.raises(InputValidationError, match="the input of task 'task' does not fit its type: number"):
            return ctx.continue_as_new({"number": "many"})
        return ctx.continue_as_new(Count(number=7))

    assert task.run(Count(number=0)) == "Count 7"


def test_attempts_and_working_time_begin_anew_and_entries_are_counted_on(bench: Bench) -> None:
    seen: list[tuple[int, int, int]] = []

    async def body(input: Any, ctx: DurableContext) -> None:
        seen.append((input or 0, ctx.retry_count, ctx.invocation_count))
        if ctx.retry_count == 0:
            raise OSError("again")
        if input == 1:
            return
        ctx.continue_as_new(1)

    Story(bench, body, retries=1).result()
    assert seen == [(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)]


def test_a_retry_of_a_later_history_keeps_its_input_and_its_checkpoints(bench: Bench) -> None:
    draws: list[int] = []

    def draw() -> int:
        draws.append(1)
        return len(draws)

    async def body(input: Any, ctx: DurableContext) -> Any:
        drawn = await ctx.aio_memo(draw)
        if input is None:
            return ctx.continue_as_new({"drawn": drawn})
        try:
            await ctx.aio_step(flaky)
        except TaskRunError:
            if ctx.retry_count == 0:
                raise
        return [input, drawn]

    def flaky() -> None:
        raise OSError

    story = Story(bench, body, retries=1)
    assert story.result() == [{"drawn": 1}, 2]
    assert len(draws) == 2


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_events_that_no_mailbox_gave_are_still_there(bench: Bench, how: str) -> None:
    async def body(input: Any, ctx: DurableContext) -> Any:
        mailbox, other, scoped = ctx.aio_events("m"), ctx.aio_events("m"), ctx.aio_events("m", "s")
        taken = [*(input or []), await anext(mailbox), await anext(mailbox)]
        if len(taken) == 2:
            await ctx.aio_wait_for_event("go")
            return ctx.continue_as_new(taken)
        return [taken, await anext(other), await anext(scoped)]

    story = Story(bench, body)
    story.asked(1)
    for number in range(3):
        story.push("m", number, scope="s" if number == 1 else None)
    story.asked(3).leave(how)
    story.push("go")
    story.asked(5).leave(how)
    story.push("m", 3)
    assert story.result() == [[0, 1, 2, 3], 0, 1]


def test_a_place_is_kept_for_a_mailbox_that_a_history_does_not_open(bench: Bench) -> None:
    async def body(input: Any, ctx: DurableContext) -> Any:
        if input == 1:
            return ctx.continue_as_new(2)
        mailbox = ctx.aio_events("m")
        first = await anext(mailbox)
        if input is None:
            return ctx.continue_as_new(1)
        return first

    story = Story(bench, body)
    story.push("m", "a")
    story.push("m", "b")
    assert story.result() == "b"


def test_what_the_old_history_waited_for_is_waited_for_no_more(bench: Bench) -> None:
    async def body(input: Any, ctx: DurableContext) -> Any:
        if input:
            return await ctx.aio_wait_for_event("new")
        asyncio.create_task(ctx.aio_ask("Go?", bool))  # noqa: RUF006
        asyncio.create_task(ctx.aio_sleep_for(timedelta(hours=1)))  # noqa: RUF006
        await ctx.aio_wait_for_event("go")
        return ctx.continue_as_new(True)

    story = Story(bench, body)
    story.asked(3)
    story.push("go")
    story.asked(4)
    assert bench.open_waits(story.ref) == ["new"]
    assert story.durable.inbox.list() == []
    bench.clock.advance(timedelta(hours=2))
    story.push("new", 1)
    assert story.result() == 1


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_child_of_the_old_history_that_ends_late_reaches_nobody(bench: Bench, how: str) -> None:
    def declare(durable: Durable) -> None:
        @durable.durable_task()
        async def child(input: Any, ctx: DurableContext) -> Any:
            return await ctx.aio_wait_for_event("child")

    async def body(input: Any, ctx: DurableContext) -> Any:
        if input:
            return [await ctx.aio_wait_for_event("a"), await ctx.aio_wait_for_event("b")]
        asyncio.create_task(ctx._engine.registry["child"].aio_run())  # noqa: RUF006
        await ctx.aio_wait_for_event("go")
        return ctx.continue_as_new(True)

    story = Story(bench, body, declare=declare)
    story.asked(2)
    wait_until(lambda: bench.rows("SELECT 1 FROM wait WHERE key = 'child'"))
    story.push("go")
    story.asked(3).leave(how)
    story.push("child", "late")
    story.push("a", 1)
    story.asked(4).leave(how)
    story.push("b", 2)
    assert story.result() == [1, 2]


def test_a_child_key_may_be_used_again_in_the_new_history(bench: Bench) -> None:
    ran: list[Any] = []

    def declare(durable: Durable) -> None:
        @durable.task()
        async def child(input: Any, ctx: Any) -> Any:
            ran.append(input)
            return input

    async def body(input: Any, ctx: DurableContext) -> Any:
        number = input or 0
        got = await ctx._engine.registry["child"].aio_run(number, child_key="same")
        again = await ctx._engine.registry["child"].aio_run(number, child_key="same")
        if number == 2:
            return [got, again]
        return ctx.continue_as_new(number + 1)

    story = Story(bench, body, declare=declare)
    assert story.result() == [2, 2]
    assert ran == [0, 1, 2]


def test_less_asked_than_recorded_before_continuing_is_non_determinism(bench: Bench) -> None:
    waits = [True]

    async def body(input: Any, ctx: DurableContext) -> Any:
        if input:
            return input
        if waits[0]:
            await ctx.aio_wait_for_event("go")
        return ctx.continue_as_new(1)

    story = Story(bench, body)
    story.asked(1)
    waits[0] = False
    story.leave("close")
    reach(story.durable, story.ref, lambda run: run.blocked_reason)
    assert "checkpoint 1 was recorded as event go, but the code now asks for nothing more" in str(story.view.blocked_reason)


def test_it_may_be_called_in_a_task_group_and_passes_broad_handlers(bench: Bench) -> None:
    async def body(input: Any, ctx: DurableContext) -> Any:
        if input:
            return input

        async def leave() -> None:
            try:
                ctx.continue_as_new("on")
            except Exception:
                raise AssertionError from None

        async with asyncio.TaskGroup() as group:
            group.create_task(leave())
        return None

    assert Story(bench, body).result() == "on"


def test_another_error_in_leaving_is_the_runs_failure(bench: Bench) -> None:
    async def body(input: Any, ctx: DurableContext) -> Any:
        try:
            return ctx.continue_as_new("on")
        finally:
            raise RuntimeError("in leaving")

    with pytest.raises(TaskRunError, match="in leaving"):
        Story(bench, body).result()


def test_a_memo_cannot_continue_its_run(bench: Bench) -> None:
    story = Story(bench, lambda _, ctx: ctx.aio_memo(lambda: ctx.continue_as_new(1)))
    with pytest.raises(TaskRunError, match="A memo or step cannot continue its run"):
        story.result()


def test_the_signal_says_what_it_is() -> None:
    assert not issubclass(ContinuedAsNew, Exception)


def test_the_new_input_carries_the_users_signature(bench: Bench) -> None:
    """Restored code is executed only for an input that this user has signed: the new one is, and a forged one is refused."""
    story = Story(bench, counting)
    story.asked(1)
    story.push("go", 1)
    story.asked(2)
    story.durable.close()

    def restored() -> Durable:
        durable = story._engine()
        durable.tasks["story"].is_restored = True
        return durable

    story.durable = restored()
    story.push("go", 2)
    story.asked(3)
    story.durable.close()
    with closing_log(bench.path) as connection:
        connection.execute("UPDATE history SET input = '99' WHERE branch = 3")
    story.durable = restored()
    story.push("go", 3)
    reach(story.durable, story.ref, lambda run: run.blocked_reason)
    assert "does not carry this user's signature" in str(story.view.blocked_reason)


def test_a_process_that_lost_the_run_continues_nothing(bench: Bench) -> None:
    """Its epoch is stale: the whole transaction is refused, so no branch and no history is left behind."""
    story = Story(bench, counting)
    story.asked(1)
    story.durable.engine.executions[story.ref.number].hold()
    bench.is_tampered = True
    with closing_log(bench.path) as connection:
        connection.execute("UPDATE run SET epoch = epoch + 1 WHERE number = ?", (story.ref.number,))
    story.durable.engine.post(story.durable.engine.executions[story.ref.number].unhold)
    story.push("go", 1)
    settle(story.durable)
    wait_until(lambda: story.ref.number not in story.durable.engine.executions)
    settle(story.durable)
    assert bench.count("history") == 0
    assert bench.count("branch") == 0


def test_entering_the_ten_thousandth_history_reads_as_little_as_the_second(bench: Bench) -> None:
    """A plain count of SQLite's steps, on a run that was continued 300 times and on the same after 30."""
    number, steps = 300, dict[int, int]()

    def entered(run: int, branch: int) -> int:
        with closing_log(bench.path) as connection:
            count = [0]
            connection.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 1)
            since = checkpoints.seq_before(connection, run, branch)
            assert len(checkpoints.load_history(connection, run, branch)) == 3
            assert checkpoints.input_of(connection, run, branch)
            checkpoints.arrived_since(connection, run, since)
            connection.set_progress_handler(None, 1)
            return count[0]

    async def body(input: Any, ctx: DurableContext) -> Any:
        done = input or 0
        await ctx.aio_now()
        await anext(ctx.aio_events("m"))
        if done in (30, number):
            await ctx.aio_wait_for_event(f"at {done}")
        if done == number:
            return done
        return ctx.continue_as_new(done + 1)

    story = Story(bench, body)
    for event in range(number + 1):
        story.push("m", event)
    for done in (30, number):
        wait_until(lambda: bench.open_waits(story.ref) == [f"at {done}"], timeout=60)  # noqa: B023
        steps[done] = entered(story.ref.number, done + 1)
        story.push(f"at {done}")
    assert story.result() == number
    assert steps[number] <= steps[30] * 1.2
    assert view(story.durable, story.ref).invocation_count == number + 1
