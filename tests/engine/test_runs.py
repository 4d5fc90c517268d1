"""`durable.runs`: what it tells of runs, and how they are chosen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.errors import DeclarationError, InputValidationError, SyncCallError, UnknownRunError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, settle, wait_until


@pytest.fixture
def work(durable: Durable) -> Task[Any]:
    @durable.task()
    async def work(input: Any, ctx: Context) -> Any:
        if input == "fail":
            raise ValueError("it failed")
        return input

    return work


def ids(runs: list[Any]) -> list[str]:
    return [run.id if hasattr(run, "id") else run.workflow_run_id for run in runs]


def test_metadata_is_compared_key_by_key(durable: Durable, work: Task[Any]) -> None:
    given: list[dict[str, Any]] = [
        {"team": "a", "day": 1},
        {"team": "a", "day": 1.0, "flag": True},
        {"team": "b", "flag": 1, "none": None},
        {"nested": {"x": [1]}, "odd\"key'": "ü"},
        {},
    ]
    refs = [work.run(wait_for_result=False, additional_metadata=metadata) for metadata in given]

    def found(**wanted: Any) -> list[int]:
        runs = durable.runs.list(metadata=wanted)
        return sorted([ref.workflow_run_id for ref in refs].index(run.id) for run in runs)

    assert found(team="a") == [0, 1]
    assert found(team="a", day=1) == [0, 1]
    assert found(flag=True) == [1]
    assert found(flag=1) == [2]
    assert found(none=None) == [2]
    assert found(nested={"x": [1]}) == [3]
    assert found(**{"odd\"key'": "ü"}) == [3]
    assert found(team="c") == []
    assert found() == [0, 1, 2, 3, 4]


def test_times_of_creation(bench: Bench, durable: Durable, work: Task[Any]) -> None:
    refs = []
    for _ in range(3):
        refs.append(work.run(wait_for_result=False))
        settle(durable)
        bench.clock.advance(timedelta(hours=1))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert ids(durable.runs.list(task="work", since=start + hour)) == ids([refs[2], refs[1]])
    assert ids(durable.runs.list(task="work", until=start + hour)) == ids([refs[0]])
    assert ids(durable.runs.list(task="work", since=start, until=start + 2 * hour)) == ids([refs[1], refs[0]])


def test_statuses_tasks_and_pages(durable: Durable, work: Task[Any]) -> None:
    refs = [work.run(value, wait_for_result=False) for value in ("ok", "fail", "ok")]
    for ref in refs:
        reach(durable, ref, lambda run: run.is_ended)
    assert ids(durable.runs.list(status="FAILED")) == ids([refs[1]])
    assert ids(durable.runs.list(status=["FAILED", "COMPLETED"])) == ids(refs[::-1])
    assert ids(durable.runs.list(limit=2)) == ids([refs[2], refs[1]])
    assert ids(durable.runs.list(limit=2, offset=2)) == ids([refs[0]])
    assert durable.runs.list(task="other") == []
    assert durable.runs.get_status(refs[1]) == "FAILED"


def test_parents_and_children(durable: Durable, work: Task[Any]) -> None:
    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        await work.aio_run_many([work.create_bulk_run_item(input=number) for number in range(3)])

    ref = parent.run(wait_for_result=False)
    ref.result()
    assert [run.task for run in durable.runs.list()] == ["parent"]
    assert [run.input for run in durable.runs.list(parent=ref)] == ["2", "1", "0"]
    assert len(durable.runs.list(include_children=True)) == 4
    with pytest.raises(UnknownRunError):
        durable.runs.list(parent="NOSUCHRUN")


def test_the_event_that_satisfied_a_run(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: str, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event(input, "input.n == 1")

    refs = [wait.run(key, wait_for_result=False) for key in ("paid", "sent", "paid")]
    for ref in refs:
        bench.asked(ref, 1)
    durable.event.push("paid", {"n": 2})
    assert durable.runs.list(event="paid") == []
    durable.event.push("paid", {"n": 1})
    for ref in (refs[0], refs[2]):
        ref.result()
    assert ids(durable.runs.list(event="paid")) == ids([refs[2], refs[0]])
    assert durable.runs.list(event="sent") == []


def test_wrong_filters_are_refused(durable: Durable, work: Task[Any]) -> None:
    with pytest.raises(
        InputValidationError, match="status='DONE' is unknown: give QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED"
    ):
        durable.runs.list(status="DONE")
    with pytest.raises(InputValidationError, match=r"since=.*give a datetime with a time zone"):
        durable.runs.list(since=datetime(2026, 1, 1))
    with pytest.raises(DeclarationError, match="bulk_cancel takes either runs or filters"):
        durable.runs.bulk_cancel()
    with pytest.raises(DeclarationError, match="bulk_replay takes either runs or filters"):
        durable.runs.bulk_replay([], task="work")
    with pytest.raises(DeclarationError, match=r"bulk_cancel takes a list of runs: `bulk_cancel\(\[run\]\)`"):
        durable.runs.bulk_cancel(work.run(wait_for_result=False))


def test_details_hold_everything(bench: Bench, durable: Durable, work: Task[Any]) -> None:
    tries = [1]

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> Any:
        await work.aio_run("child", child_key="k")
        if tries and tries.pop():
            raise ValueError("once")
        return await ctx.aio_wait_for_event("go")

    ref = parent.run("in", wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref))
    wait_until(lambda: durable.runs.evict(ref))
    details = durable.runs.get_details(ref)
    assert (details.run.id, details.run.is_evicted) == (ref.workflow_run_id, True)
    assert [(item.node, item.kind, item.seq) for item in details.checkpoints] == [(1, "child", 1), (2, "event", None)]
    [child] = details.children
    assert (child.task, child.status, child.child_key, child.branch, child.node) == ("work", "COMPLETED", "k", 1, 1)
    assert [(wait.node, wait.key) for wait in details.waits] == [(2, "go")]
    first, second = details.attempts
    assert (first.number, first.ended, first.error, first.entered) == (1, "retried", "ValueError: once", 1)
    assert (second.number, second.ended, second.error, second.entered) == (2, None, None, 1)
    durable.event.push("go")
    ref.result()
    ended = durable.runs.get_details(ref)
    assert (ended.attempts[1].ended, ended.attempts[1].entered, ended.waits) == ("COMPLETED", 2, ())
    with pytest.raises(AttributeError):
        ended.run = None  # type: ignore[misc, assignment]


def test_the_aio_forms(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    async def steer() -> list[Any]:
        runs = durable.runs
        ref = await wait.aio_run(wait_for_result=False)
        while len((await runs.aio_get_details(ref)).checkpoints) < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        fork = await runs.aio_fork(ref, 1, override="forked")
        said: list[Any] = [await runs.aio_get_result(fork), await runs.aio_get_status(ref)]
        await runs.aio_reset_durable_task(ref, 1)
        said.append(await runs.aio_cancel(ref))
        while (await runs.aio_get(ref)).status != "CANCELLED":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        said += [await runs.aio_cancel(ref), await runs.aio_restore(ref), await runs.aio_retake(ref)]
        said.append((await runs.aio_replay(await runs.aio_get_run_ref(ref))).workflow_run_id == ref.workflow_run_id)
        said += [await runs.aio_bulk_cancel([ref]) == [ref.workflow_run_id], await runs.aio_bulk_replay([fork])]
        return said

    said = asyncio.run(steer())
    assert said[:-1] == ["forked", "RUNNING", True, False, False, False, True, True]
    assert len(said[-1]) == 1


def test_sync_forms_name_the_aio_form_on_the_engines_thread(durable: Durable) -> None:
    @durable.task()
    async def sync(input: Any, ctx: Context) -> str:
        try:
            durable.runs.cancel(ctx.workflow_run_id)
        except SyncCallError as error:
            return str(error)
        return ""

    assert "await durable.runs.aio_cancel(…)" in sync.run()
