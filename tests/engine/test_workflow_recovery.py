"""Workflows of real size and shape through crashes, evictions, several engines and changes of their declaration."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, EvictionPolicy, ParentCondition, SleepCondition, UserEventCondition, or_
from durable_nb.engine.clock import SystemClock
from durable_nb.tasks.workflow import Workflow
from tests.engine.helpers import Bench, reach, settle, view, wait_until


def diamond(durable: Durable, **options: Any) -> Workflow:
    """extract → (clean, stats, maps) → approve (event) → report, with a branch that is skipped and a durable task."""
    wf = durable.workflow(name="diamond", **options)

    @wf.task()
    def extract(input: Any, ctx: Context) -> int:
        return int(input)

    @wf.task(parents=[extract])
    def clean(input: Any, ctx: Context) -> int:
        return ctx.task_output(extract) + 1

    @wf.durable_task(parents=[extract])
    async def stats(input: Any, ctx: DurableContext) -> int:
        base = int(await ctx.aio_memo(lambda: ctx.task_output(extract), int))
        await ctx.aio_wait_for_event("stats")
        return base + 2

    @wf.task(parents=[extract], skip_if=ParentCondition(extract, "output < 100"))
    def maps(input: Any, ctx: Context) -> int:
        return 0

    @wf.task(
        parents=[clean, stats, maps],
        wait_for=or_(UserEventCondition("approve", "input.by != ''"), SleepCondition(timedelta(days=7))),
        cancel_if=UserEventCondition("stop"),
    )
    async def approve(input: Any, ctx: Context) -> list[Any]:
        return [ctx.task_output(clean), ctx.task_output(stats), ctx.was_skipped(maps)]

    @wf.task(parents=[approve])
    def report(input: Any, ctx: Context) -> int:
        return sum(ctx.task_output(approve)[:2])

    @wf.on_success_task()
    def done(input: Any, ctx: Context) -> str:
        return f"done {ctx.task_output(report)}"

    return wf


RESULT = {
    "extract": 5, "clean": 6, "stats": 7, "maps": {"skipped": True}, "approve": [6, 7, True], "report": 13, "done": "done 13"
}  # fmt: skip
ASKS = [
    "plan", "child diamond:extract", "child diamond:clean", "child diamond:stats", "skip maps: its skip_if is true",
    "wait stop", "wait approve", "child diamond:approve", "child diamond:report", "child diamond:done",
]  # fmt: skip


def asks(bench: Bench, ref: Any) -> list[str]:
    rows = bench.rows("SELECT kind, ask FROM v_checkpoints WHERE run_id = ? ORDER BY node", ref.workflow_run_id)
    found = [f"{kind} {ask.removeprefix('wait for ')}" if kind != "plan" else kind for kind, ask in rows]
    return [ask.split(" if ")[0].split(" (")[0] if ask.startswith("wait") else ask for ask in found]


@pytest.mark.parametrize("stage", range(1, 11))
def test_a_diamond_is_the_same_wherever_its_process_is_killed(bench: Bench, stage: int) -> None:
    """Killed once `stage` checkpoints are asked; and once more three checkpoints later, the other way: by closing."""
    durable = bench.durable()
    ref = diamond(durable).run(5, wait_for_result=False)
    crashes = [stage, stage + 3]
    events: dict[int, tuple[str, Any]] = {6: ("stats", {}), 8: ("approve", {"by": "Ann"})}
    for asked in range(1, len(ASKS) + 1):
        if asked in events:
            key, payload = events[asked]
            wait_until(lambda: bench.rows("SELECT 1 FROM wait WHERE key = ?", key), what=key)  # noqa: B023
            durable.event.push(key, payload)
        wait_until(lambda: len(asks(bench, ref)) >= asked, what=f"{asked} asks")  # noqa: B023
        if asked in crashes:
            bench.crash() if asked == stage else durable.close()
            durable = bench.durable()
            diamond(durable)
            ref = durable.runs.get_run_ref(ref.workflow_run_id)
    assert ref.result() == RESULT
    assert sorted(asks(bench, ref)) == sorted(ASKS)
    counts = bench.rows("SELECT task, count(*) FROM run WHERE parent = 1 GROUP BY task HAVING count(*) > 1")
    assert counts == []


def test_a_waiting_workflow_is_evicted_and_costs_no_object(bench: Bench) -> None:
    durable = bench.durable()
    policy = EvictionPolicy(ttl=timedelta(minutes=1))
    refs = [diamond(durable, eviction_policy=policy).run(5, wait_for_result=False) for _ in range(3)]
    wait_until(lambda: bench.rows("SELECT count(*) FROM wait") == [(3,)])

    def evicted() -> bool:
        bench.clock.advance(60 * 5)
        return all(view(durable, ref).is_evicted for ref in refs) and not durable.engine.executions

    wait_until(evicted)
    durable.event.push("stats")
    wait_until(lambda: bench.rows("SELECT count(*) FROM wait") == [(9,)])
    wait_until(evicted)
    durable.event.push("approve", {"by": "Ann"})
    assert [ref.result() for ref in refs] == [RESULT] * 3
    assert view(durable, refs[0]).invocation_count == 3


def test_a_wide_workflow(bench: Bench) -> None:
    """200 tasks fan out and in, their process killed in between."""
    gate = threading.Event()

    def wide(durable: Durable) -> Workflow:
        wf = durable.workflow(name="wide")
        root = wf.task(name="root")(one)

        def half(number: int) -> Any:
            async def run(input: Any, ctx: Context) -> int:
                if number == 150 and not gate.is_set():
                    await asyncio.get_running_loop().create_future()
                return ctx.task_output(root) * number

            return run

        parts = [wf.task(name=f"part {number}", parents=[root])(half(number)) for number in range(200)]

        @wf.task(parents=parts)
        def total(input: Any, ctx: Context) -> int:
            return sum(ctx.task_output(part) for part in parts)

        return wf

    durable = bench.durable()
    ref = wide(durable).run(wait_for_result=False)
    wait_until(lambda: bench.rows("SELECT count(*) FROM run WHERE status = 'COMPLETED'") == [(200,)], timeout=30)
    bench.crash()
    gate.set()
    again = bench.durable()
    wide(again)
    result = again.runs.get_run_ref(ref.workflow_run_id).result()
    assert result["total"] == sum(range(200))
    assert len(result) == 202
    assert bench.count("run") == 203
    assert bench.rows("SELECT sum(invocation_count) FROM run WHERE parent = 1 AND task <> 'wide:part 150'") == [(201,)]


def one(input: Any, ctx: Context) -> int:
    return 1


def test_a_deep_workflow(bench: Bench) -> None:
    """A chain of 200, killed in the middle, whose last half is skipped or not by the parent's output."""

    def deep(durable: Durable) -> None:
        wf = durable.workflow(name="deep")
        last = wf.task(name="0")(one)

        def follow(parent: Any) -> Any:
            def run(input: Any, ctx: Context) -> int:
                return 1 + int(ctx.task_output(parent))

            return run

        for number in range(1, 200):
            wait_for = UserEventCondition("on") if number == 100 else ()
            last = wf.task(name=str(number), parents=[last], wait_for=wait_for)(follow(last))

    durable = bench.durable()
    deep(durable)
    ref = durable.tasks["deep"].run(wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref) == ["on"], timeout=30)
    bench.crash()
    durable = bench.durable()
    deep(durable)
    settle(durable)
    durable.event.push("on")
    result = durable.runs.get_run_ref(ref.workflow_run_id).result()
    assert result["199"] == 200
    assert bench.rows("SELECT sum(invocation_count) FROM run WHERE parent = 1") == [(200,)]


def test_a_failure_at_the_top_of_a_deep_workflow(bench: Bench) -> None:
    durable = bench.durable()
    wf = durable.workflow(name="deep")

    @wf.task(name="0")
    def bad(input: Any, ctx: Context) -> None:
        raise ValueError("top")

    last: Any = bad
    for number in range(1, 1500):
        last = wf.task(name=str(number), parents=[last])(one)
    with pytest.raises(Exception, match="top"):
        wf.run()
    assert bench.count("run") == 2


# ------------------------------------------------------------ two engines


@pytest.fixture
def pair(bench: Bench) -> Iterator[tuple[Durable, Durable]]:
    engines = [bench.durable(clock=SystemClock()) for _ in range(2)]
    for engine in engines:
        diamond(engine)
        engine.open()
    yield engines[0], engines[1]


def test_two_engines_share_the_work_and_the_events(bench: Bench, pair: tuple[Durable, Durable]) -> None:
    a, b = pair
    refs = [engine.tasks["diamond"].run(5, wait_for_result=False) for engine in (a, b) * 5]
    wait_until(lambda: bench.rows("SELECT count(*) FROM wait WHERE key = 'stats'") == [(10,)])
    b.event.push("stats")
    wait_until(lambda: bench.rows("SELECT count(*) FROM wait WHERE key = 'approve'") == [(10,)])
    a.event.push("approve", {"by": "Ann"})
    assert [ref.result() for ref in refs] == [RESULT] * 10
    assert bench.rows("SELECT count(*) FROM run WHERE parent IS NOT NULL") == [(60,)]


def test_one_engine_goes_on_with_what_both_have_written(bench: Bench, pair: tuple[Durable, Durable]) -> None:
    a, b = pair
    ref = a.tasks["diamond"].run(5, wait_for_result=False)
    wait_until(lambda: bench.rows("SELECT 1 FROM wait WHERE key = 'stats'"))
    b.event.push("stats")
    wait_until(lambda: bench.rows("SELECT 1 FROM wait WHERE key = 'approve'"))
    a.close()
    b.event.push("approve", {"by": "Ann"})
    assert b.runs.get_run_ref(ref.workflow_run_id).result() == RESULT


@pytest.mark.slow
def test_timers_of_conditions_on_the_real_clock(bench: Bench) -> None:
    durable = bench.durable(clock=SystemClock())
    wf = durable.workflow(name="real")
    first = wf.task(name="first", wait_for=SleepCondition(timedelta(seconds=0.6)))(one)
    wf.task(
        name="second",
        parents=[first],
        wait_for=SleepCondition(timedelta(minutes=1)),
        skip_if=SleepCondition(timedelta(seconds=1)),
    )(one)
    assert wf.run() == {"first": 1, "second": {"skipped": True}}


# ------------------------------------------------------------ changed declarations


def declare(durable: Durable, *names: str, **options: Any) -> Workflow:
    """a → b → …, the first waiting for the event `go`."""
    wf = durable.workflow(name="wf")
    last: list[Any] = []
    for name in names:
        last = [wf.task(name=name, parents=last, **(options if last else {"wait_for": UserEventCondition("go")}))(one)]
    return wf


Change = Callable[[Durable], Any]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda durable: declare(durable, "a"),
            "was recorded as workflow 'wf' with the task 'b' after a, but the code now asks for it with no task 'b'",
        ),
        (
            lambda durable: declare(durable, "a", "b", "c"),
            "workflow 'wf' with no task 'c', but the code now asks for it with the task 'c' after b",
        ),
        (lambda durable: declare(durable, "a", "b", skip_if=UserEventCondition("x")), "it with the task 'b' after a, skip_if"),
        (lambda durable: durable.workflow(name="wf"), "workflow 'wf' with the task 'a'"),
    ],
)
def test_a_run_that_is_under_way_does_not_go_on_in_another_shape(bench: Bench, change: Change, sentence: str) -> None:
    durable = bench.durable()
    ref = declare(durable, "a", "b").run(wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.close()
    durable = bench.durable()
    change(durable)
    durable.open()
    reason = reach(durable, ref, lambda run: run.blocked_reason).blocked_reason
    assert reason is not None
    assert "It diverged: checkpoint 1" in reason
    assert sentence in reason
    assert "restore the code it started with" in reason
    durable.event.push("go")
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    declare(durable, "a", "b")  # as it was: it goes on by itself
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == {"a": 1, "b": 1}


def test_a_run_that_was_only_queued_waits_until_its_workflow_is_whole_again(bench: Bench) -> None:
    """A process that opens the log first and declares then must not run half of the graph."""
    from durable_nb.engine.dispatch import Slots

    durable = bench.durable(slots=Slots(durable=0))
    ref = declare(durable, "a", "b").run(wait_for_result=False)
    durable.close()
    durable = bench.durable().open()
    wf = durable.workflow(name="wf")
    reach(durable, ref, lambda run: run.blocked_reason)
    a = wf.task(name="a", wait_for=UserEventCondition("go"))(one)
    settle(durable)
    blocked = view(durable, ref).blocked_reason
    assert blocked is not None
    assert "workflow 'wf' in another shape, but the code now asks for one of the tasks" in blocked
    wf.task(name="b", parents=[a])(one)
    again = durable.runs.get_run_ref(ref.workflow_run_id)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.event.push("go")
    assert again.result() == {"a": 1, "b": 1}


def test_a_run_parked_by_one_process_goes_on_in_the_next_that_declares_its_shape(bench: Bench) -> None:
    durable = bench.durable()
    ref = declare(durable, "a", "b").run(wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.close()
    durable = bench.durable()
    declare(durable, "a")
    durable.open()
    reach(durable, ref, lambda run: run.blocked_reason)
    durable.close()
    durable = bench.durable()
    declare(durable, "a", "b")
    durable.open()
    durable.event.push("go")
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == {"a": 1, "b": 1}


def test_the_order_of_declaration_may_change(bench: Bench) -> None:
    def siblings(durable: Durable, names: str) -> Workflow:
        wf = durable.workflow(name="wf")
        for name in names:
            wf.task(name=name, wait_for=UserEventCondition(name))(one)
        return wf

    durable = bench.durable()
    ref = siblings(durable, "abc").run(wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref) == ["a", "b", "c"])
    durable.close()
    durable = bench.durable()
    siblings(durable, "cab")
    settle(durable)
    for key in "bca":
        durable.event.push(key)
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == {"a": 1, "b": 1, "c": 1}


# ------------------------------------------------------------ hostile names and inputs


def test_names_and_inputs_of_every_kind(bench: Bench) -> None:
    durable = bench.durable()
    wf = durable.workflow(name="wörk: <b>'flow'")
    name = "tâche \u202e \U0001d518\n'; DROP TABLE run; --" + "x" * 1000
    first = wf.task(name=name)(echo)
    wf.task(name="second", parents=[first], skip_if=ParentCondition(first, "size(output.big) < 10"))(size_of(first))
    big = "ü" * 300_000
    result = wf.run({"big": big})
    assert result == {name: {"big": big}, "second": len(big)}
    assert bench.rows("SELECT count(*) FROM payload") == [(2,)]  # the input once, and the result


def echo(input: Any, ctx: Context) -> Any:
    return input


def size_of(parent: Any) -> Any:
    def run(input: Any, ctx: Context) -> int:
        return len(ctx.task_output(parent)["big"])

    return run
