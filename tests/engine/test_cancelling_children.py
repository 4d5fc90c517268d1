"""Cancel goes down: what a cancelled run has spawned and has not ended is cancelled in the same transaction."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunCancelledError
from durable_nb.engine.dispatch import Slots
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, view, wait_until


def family_of(durable: Durable, **options: Any) -> Task[Any]:
    """Declare `tree`, whose runs spawn one of the next depth and wait for it; the last waits for an event."""

    @durable.durable_task(name="tree")
    async def tree(input: int, ctx: DurableContext) -> Any:
        if input == 0:
            return await ctx.aio_wait_for_event("leaf")
        return await durable.tasks["tree"].aio_run(input - 1, **options)

    return tree


def statuses(durable: Durable, task: str) -> list[str]:
    return [run.status for run in durable.runs.list(task=task, include_children=True, limit=2000)]


def test_all_generations_are_cancelled(bench: Bench, durable: Durable) -> None:
    ref = family_of(durable).run(4, wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 1)
    durable.runs.cancel(ref)
    with pytest.raises(RunCancelledError):
        ref.result()
    wait_until(lambda: statuses(durable, "tree") == ["CANCELLED"] * 5)
    reasons = [run.error.message for run in durable.runs.list(task="tree", include_children=True) if run.error]
    assert sum("its parent" in reason for reason in reasons) == 4
    assert bench.count("wait") == 0


def test_a_crash_right_after_the_request_leaves_nobody_uncancelled(bench: Bench, durable: Durable) -> None:
    ref = family_of(durable).run(4, wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 1)
    other = bench.durable()
    durable.close()  # nobody is there to go on with anything
    other.runs.cancel(ref)
    other.close()
    bench.crash()
    assert bench.rows("SELECT count(*) FROM run WHERE cancelled_at IS NOT NULL") == [(5,)]
    third = bench.durable()
    family_of(third)
    third.open()
    wait_until(lambda: statuses(third, "tree") == ["CANCELLED"] * 5)


def test_a_child_that_is_not_to_be_cancelled_goes_on(bench: Bench, durable: Durable) -> None:
    ref = family_of(durable, cancel_with_parent=False).run(2, wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 1)
    durable.runs.cancel(ref)
    reach(durable, ref, lambda run: run.status == "CANCELLED")
    assert sorted(statuses(durable, "tree")) == ["CANCELLED", "RUNNING", "RUNNING"]
    durable.event.push("leaf", "fell")
    wait_until(lambda: sorted(statuses(durable, "tree")) == ["CANCELLED", "COMPLETED", "COMPLETED"])


@pytest.mark.parametrize("form", ["bulk", "run_child", "no_wait"])
def test_the_option_has_every_form(bench: Bench, durable: Durable, form: str) -> None:
    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        if form == "bulk":
            await child.aio_run_many([child.create_bulk_run_item(cancel_with_parent=False)])
        elif form == "run_child":
            await ctx.aio_run_child(child, cancel_with_parent=False)
        else:
            await child.aio_run(wait_for_result=False, cancel_with_parent=False)
            await ctx.aio_wait_for_event("never")

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.rows("SELECT 1 FROM v_waits WHERE key = 'go'"))
    durable.runs.cancel(ref)
    reach(durable, ref, lambda run: run.is_ended)
    assert statuses(durable, "child") == ["RUNNING"]


def test_children_of_a_regular_parent(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    @durable.task()
    async def parent(input: Any, ctx: Context) -> None:
        await child.aio_run_many([child.create_bulk_run_item() for _ in range(3)])

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 3)
    durable.runs.cancel(ref)
    wait_until(lambda: statuses(durable, "child") == ["CANCELLED"] * 3)
    reach(durable, ref, lambda run: run.status == "CANCELLED")


def test_a_thousand_children(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=20, loop=5))

    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        await child.aio_run_many([child.create_bulk_run_item(input=number) for number in range(1000)])

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 1000)
    durable.runs.cancel(ref)
    reach(durable, ref, lambda run: run.status == "CANCELLED")
    wait_until(lambda: bench.rows("SELECT count(*) FROM run WHERE status = 'CANCELLED'") == [(1001,)], 30)


def test_what_clean_up_spawns_is_cancelled_with_the_end(bench: Bench, durable: Durable) -> None:
    """Clean-up may use children; one that it does not wait for does not outlive it."""

    @durable.task()
    async def quick(input: Any, ctx: Context) -> str:
        return "quick"

    @durable.durable_task()
    async def long(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    done: list[str] = []

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        try:
            await ctx.aio_wait_for_event("never")
        except asyncio.CancelledError:
            await long.aio_run(wait_for_result=False)
            done.append(await quick.aio_run())
            raise

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.runs.cancel(ref)
    reach(durable, ref, lambda run: run.status == "CANCELLED")
    assert done == ["quick"]
    wait_until(lambda: statuses(durable, "long") == ["CANCELLED"])


def test_the_grandparent_hears_of_it_at_the_end(bench: Bench, durable: Durable) -> None:
    """Not when the cancel is asked for: while the run cleans up, who waits for it waits on."""

    @durable.durable_task()
    async def middle(input: Any, ctx: DurableContext) -> None:
        try:
            await ctx.aio_wait_for_event("never")
        except asyncio.CancelledError:
            await ctx.aio_wait_for_event("cleaned")

    @durable.durable_task()
    async def top(input: Any, ctx: DurableContext) -> list[Any]:
        try:
            await middle.aio_run()
        except RunCancelledError as error:
            return [error.node_id, "was cancelled" in str(error)]
        return []

    ref = top.run(wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 1)
    [below] = durable.runs.list(parent=ref)
    durable.runs.cancel(below.id)
    wait_until(lambda: bench.rows("SELECT 1 FROM v_waits WHERE key = 'cleaned'"))
    assert view(durable, ref).status == "RUNNING"
    durable.event.push("cleaned")
    assert ref.result() == [1, True]


def test_a_cancelled_child_is_asked_afresh_by_a_retry(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> Any:
        return await child.aio_run()

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 1)
    [first] = durable.runs.list(parent=ref)
    durable.runs.cancel(first.id)
    wait_until(lambda: len(durable.runs.list(parent=ref)) == 2 and bench.count("wait") == 1)
    durable.event.push("go", "went")
    assert ref.result() == "went"


# ---------------------------------------------------------------- many at once, and as checkpoints


def test_bulk_cancel_by_names_and_by_filter(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    def start(**metadata: Any) -> Any:
        return wait.run(wait_for_result=False, additional_metadata=metadata)

    refs = [start(team="a"), start(team="a", day=1), start(team="b"), start()]
    assert durable.runs.bulk_cancel([refs[3]]) == [refs[3].workflow_run_id]
    assert durable.runs.bulk_cancel(metadata={"team": "a"}, task="wait") == [ref.workflow_run_id for ref in refs[:2]]
    for ref in (*refs[:2], refs[3]):
        reach(durable, ref, lambda run: run.status == "CANCELLED")
    assert not view(durable, refs[2]).is_ended
    assert durable.runs.bulk_cancel(metadata={"team": "a"}) == []


def test_a_durable_task_steers_once(bench: Bench, durable: Durable) -> None:
    """What changes a run is a checkpoint there: after a crash it is replayed, not done again."""

    def declare(durable: Durable) -> None:
        @durable.durable_task()
        async def wait(input: Any, ctx: DurableContext) -> None:
            await ctx.aio_wait_for_event("go")

        @durable.durable_task()
        async def boss(input: list[str], ctx: DurableContext) -> list[Any]:
            one = await durable.runs.aio_cancel(input[0], reason="by the boss")
            many = await durable.runs.aio_bulk_cancel(input)
            await ctx.aio_wait_for_event("report")
            return [one, many]

    declare(durable)
    wait = durable.tasks["wait"]
    refs = wait.run_many([wait.create_bulk_run_item() for _ in range(2)], wait_for_result=False)
    for ref in refs:
        bench.asked(ref, 1)
    ids = [ref.workflow_run_id for ref in refs]
    ref = durable.tasks["boss"].run(ids, wait_for_result=False)
    bench.asked(ref, 3)
    for name in ids:
        reach(durable, durable.runs.get_run_ref(name), lambda run: run.status == "CANCELLED")
    bench.crash()
    second = bench.durable()
    declare(second)
    second.event.push("report")
    assert second.runs.get_result(ref) == [True, ids]
    assert [words for _, _, words in bench.asks(ref)][:2] == [f"cancel {ids[0]}", f'bulk cancel ["{ids[0]}", "{ids[1]}"]']


def test_a_failure_to_steer_is_a_recorded_failure(durable: Durable) -> None:
    from durable_nb import TaskRunError

    @durable.durable_task()
    async def boss(input: Any, ctx: DurableContext) -> list[str]:
        said = []
        for make in (
            lambda: durable.runs.aio_replay(ctx.workflow_run_id),
            lambda: durable.runs.aio_cancel("NOSUCHRUN"),
            lambda: durable.runs.aio_reset_durable_task(ctx.workflow_run_id, 1),
        ):
            try:
                await make()
            except TaskRunError as error:
                said.append(error.exc_type)
        return said

    assert boss.run() == ["RunActiveError", "UnknownRunError", "DeclarationError"]
