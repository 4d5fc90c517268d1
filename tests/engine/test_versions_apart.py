"""Two notebooks on one log that give one name to different tasks: each executes its own runs, and none of the other's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.dispatch import Slots
from durable_nb.tasks.options import TaskOptions
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, view, wait_until


def notebook(bench: Bench, home: str, version: str | None, **options: Any) -> Durable:
    """Give an open engine of a home, whose tasks `work` and `wait` have a version and say who executed them with which."""
    durable = bench.durable(clock=SystemClock(), home=home, slots=Slots(durable=2, loop=3, thread=1))
    define(durable, version, **options)
    return durable.open()


def define(durable: Durable, version: str | None, *, is_restored: bool = False, **options: Any) -> None:
    """Define both tasks, as a cell does, or the log where they were restored."""
    said = [durable.home, version]

    async def work(input: Any, ctx: Context) -> list[Any]:
        return [*said, input]

    async def wait(input: Any, ctx: DurableContext) -> list[Any]:
        return [*said, await ctx.aio_wait_for_event("go")]

    for name, kind, function in (("work", "task", work), ("wait", "durable_task", wait)):
        own = TaskOptions(**options) if kind == "task" else TaskOptions()
        task: Task[Any] = Task(function, host=durable, kind=kind, name=name, options=own, version=version)  # type: ignore[arg-type]
        task.is_restored = is_restored
        durable.add(task)


def ready(bench: Bench) -> list[str]:
    """Give the runs that nobody has taken up, by id."""
    return [run for (run,) in bench.rows("SELECT id FROM run WHERE ready_at IS NOT NULL AND owner IS NULL ORDER BY number")]


def at_work(durable: Durable, looks: int = 10) -> None:
    """Have an engine look for ready runs so many times, since it executes others."""
    for number in range(looks):
        assert durable.tasks["work"].run(number) == [durable.home, durable.tasks["work"].version, number]


def test_each_executes_its_own_runs_of_a_name_that_both_have(bench: Bench) -> None:
    engines = [notebook(bench, "a", "1"), notebook(bench, "b", "2")]
    waits = [engine.tasks["wait"].run(number, wait_for_result=False) for number in range(6) for engine in engines]
    refs = [engine.tasks["work"].run(number, wait_for_result=False) for number in range(40) for engine in engines]
    assert [ref.result()[:2] for ref in refs] == [["a", "1"], ["b", "2"]] * 40
    for ref in waits:  # in two slots: most were evicted, and are entered again when the event comes, by either's hand
        bench.asked(ref, 1)
    engines[1].event.push("go", 0)
    assert [ref.result() for ref in waits] == [["a", "1", 0], ["b", "2", 0]] * 6
    assert bench.rows("SELECT DISTINCT home, version FROM run") == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize(
    ("home", "version"),
    [("c", "1"), ("a", "9"), ("", None)],
    ids=["by the same code elsewhere", "by its own home with new code", "by a script whose code is not kept"],
)
def test_the_run_of_one_that_is_gone_is_taken_over(bench: Bench, home: str, version: str | None) -> None:
    a, b = notebook(bench, "a", "1"), notebook(bench, "b", "2")
    restored, unkept = notebook(bench, "d", "1", is_restored=True), notebook(bench, "e", None)
    ref = a.tasks["wait"].run(wait_for_result=False)
    bench.asked(ref, 1)
    a.close()
    b.event.push("go", 0)
    at_work(b)
    at_work(restored)
    at_work(unkept)  # a cell that has not ended yet
    assert ready(bench) == [ref.workflow_run_id], "neither by other code, nor by what another notebook restored"
    third = notebook(bench, home, version)
    assert third.runs.get_run_ref(ref.workflow_run_id).result() == [home, version, 0]
    assert view(b, ref).version == "1"


def test_a_run_without_a_version_goes_to_whoever_defines_its_task(bench: Bench) -> None:
    script = bench.durable(clock=SystemClock())
    define(script, None)
    ref = script.tasks["wait"].run(wait_for_result=False)
    bench.asked(ref, 1)
    script.close()
    b = notebook(bench, "b", "2")
    b.event.push("go", 0)
    assert b.runs.get_run_ref(ref.workflow_run_id).result() == ["b", "2", 0]


def test_a_run_that_was_taken_over_keeps_its_code_when_the_cell_is_edited_here(bench: Bench) -> None:
    a, b = notebook(bench, "a", "1"), notebook(bench, "b", "1")
    ref = a.tasks["wait"].run(wait_for_result=False)
    bench.asked(ref, 1)
    a.close()
    reach(b, ref, lambda run: run.owner == b.engine.worker)
    wait_until(lambda: any(execution.is_waiting() for execution in b.engine.executions.values()))
    [execution] = b.engine.executions.values()
    b.call(lambda: b.engine.dispatcher.evict(execution), aio="")
    define(b, "2")
    at_work(b)
    b.event.push("go", 0)
    assert b.runs.get_run_ref(ref.workflow_run_id).result() == ["b", "1", 0]


def test_a_fork_of_the_others_run_keeps_the_others_code(bench: Bench) -> None:
    a, b = notebook(bench, "a", "1"), notebook(bench, "b", "2")
    ref = a.tasks["wait"].run(wait_for_result=False)
    bench.asked(ref, 1)
    fork = b.runs.fork(ref.workflow_run_id, 1)
    bench.asked(fork, 1)
    b.event.push("go", 0)
    assert fork.result() == ref.result() == ["a", "1", 0]


def test_an_event_starts_the_task_that_listens_not_one_of_its_name(bench: Bench) -> None:
    b, a = notebook(bench, "b", "2"), notebook(bench, "a", "1", on_events=("order",))
    wait_until(lambda: bench.count("listener") == 1)
    [started] = b.event.push("order", {"n": 1}).started_runs
    assert b.runs.get_run_ref(started).result() == ["a", "1", {"n": 1}]
    a.close()
    [started] = b.event.push("order", {"n": 2}).started_runs
    at_work(b)
    assert ready(bench) == [started]
    third = notebook(bench, "c", "1", on_events=("order",))
    assert third.runs.get_run_ref(started).result() == ["c", "1", {"n": 2}]


def test_the_schedule_timeout_of_the_others_task_is_not_this_ones(bench: Bench) -> None:
    a, b = notebook(bench, "a", "1"), notebook(bench, "b", "2", schedule_timeout=timedelta(milliseconds=1))
    ref = a.tasks["wait"].run(wait_for_result=False)
    a.queue.pause("work")
    late = a.tasks["work"].run(7, wait_for_result=False)
    a.close()
    b.queue.unpause("work")
    for _ in range(3):
        b.call(b.engine.dispatcher.age_queue, aio="")
    assert view(b, late).status == "QUEUED"
    again = notebook(bench, "a", "1")
    assert again.runs.get_run_ref(late.workflow_run_id).result() == ["a", "1", 7]
    assert view(b, ref).status == "RUNNING"
