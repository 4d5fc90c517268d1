"""Conditions of a workflow's tasks: what decides, in which order, and the same after an eviction, a closing and a crash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import (
    Context,
    Durable,
    DurableContext,
    EvictionPolicy,
    ParentCondition,
    ParentOutputError,
    RunCancelledError,
    RunRef,
    SleepCondition,
    TaskRunError,
    UserEventCondition,
    or_,
)
from durable_nb.tasks.workflow import Workflow
from tests.engine.helpers import Bench, settle, wait_until

HOUR = timedelta(hours=1)
Declare = Callable[[Workflow], Any]


def echo(input: Any, ctx: Context) -> Any:
    return input


def event(key: str, expression: str | None = None) -> UserEventCondition:
    return UserEventCondition(key, expression)


class Rig:
    """A workflow that any number of engines declare in the same way, one after the other, and one run of it."""

    def __init__(self, bench: Bench, declare: Declare, input: Any = 0) -> None:
        self.bench, self.declare, self.input = bench, declare, input
        self.ran: list[str] = []
        self.durable = self.engine()
        self.ref: RunRef[Any] = self.durable.tasks["wf"].run(input, wait_for_result=False)

    def engine(self) -> Durable:
        durable = self.bench.durable()
        self.declare(durable.workflow(name="wf", eviction_policy=EvictionPolicy(ttl=timedelta(seconds=1))))
        return durable

    def interrupt(self, how: str) -> None:
        """Let the waiting run be evicted, its engine be closed, or its process be killed."""
        if how == "evict":
            wait_until(self.is_evicted, what="eviction")
        elif how in ("close", "crash"):
            if how == "crash":
                self.bench.crash()
            else:
                self.durable.close()
            self.durable = self.engine()
            settle(self.durable)
            self.ref = self.durable.runs.get_run_ref(self.ref.workflow_run_id)

    def is_evicted(self) -> bool:
        self.bench.clock.advance(2)
        return self.durable.runs.get(self.ref.workflow_run_id).is_evicted

    def waits(self, *names: str) -> None:
        wait_until(lambda: self.bench.open_waits(self.ref) == list(names), what=f"waits for {names}")

    def asked(self) -> list[str]:
        return [f"{kind} {ask}" for kind, ask in self.bench.rows("SELECT kind, ask FROM v_checkpoints ORDER BY node")]


INTERRUPTIONS = ["no", "evict", "close", "crash"]
by_interruption = pytest.mark.parametrize("how", INTERRUPTIONS)


@by_interruption
def test_a_task_waits_for_its_event_and_sleep(bench: Bench, how: str) -> None:
    def declare(wf: Workflow) -> None:
        a = wf.task(name="a")(echo)
        wf.task(name="b", parents=[a], wait_for=[event("go", "input.ok"), SleepCondition(HOUR)])(echo)

    rig = Rig(bench, declare, 5)
    rig.waits("go", "sleep:1h")
    rig.interrupt(how)
    rig.durable.event.push("go", {"ok": False})
    rig.durable.event.push("go", {"ok": True})
    rig.waits("sleep:1h")
    bench.clock.advance(HOUR)
    assert rig.ref.result() == {"a": 5, "b": 5}
    assert rig.asked() == [
        "plan plan of wf: a, b",
        "child wf:a",
        "wait wait for go if input.ok and 1h (wait_for of b)",
        "child wf:b",
    ]


@by_interruption
@pytest.mark.parametrize(
    ("first", "result"),
    [("skip", {"skipped": True}), ("go", 0), ("stop", None)],
)
def test_the_first_gate_to_become_true_decides(bench: Bench, how: str, first: str, result: Any) -> None:
    def declare(wf: Workflow) -> None:
        wf.task(name="a", wait_for=event("go"), skip_if=event("skip"), cancel_if=event("stop"))(echo)
        wf.task(name="z", wait_for=event("end"))(echo)

    rig = Rig(bench, declare)
    rig.waits("skip", "stop", "go", "end")
    rig.interrupt(how)
    rig.durable.event.push(first)
    rig.waits("end")
    for late in ("skip", "go", "stop"):
        rig.durable.event.push(late)
    rig.interrupt(how)
    rig.durable.event.push("end")
    if result is None:
        with pytest.raises(RunCancelledError):
            rig.ref.result()
    else:
        assert rig.ref.result() == {"a": result, "z": 0}


@by_interruption
def test_of_what_becomes_true_by_one_event_skip_goes_before_cancel_and_that_before_run(bench: Bench, how: str) -> None:
    def declare(wf: Workflow) -> None:
        wf.task(name="a", wait_for=event("e"), skip_if=event("e"), cancel_if=event("e"))(echo)
        wf.task(name="b", wait_for=event("e"), skip_if=event("e"))(echo)
        wf.task(name="c", wait_for=event("e"), cancel_if=event("e", "input == 9"))(echo)

    rig = Rig(bench, declare)
    rig.waits("e", "e", "e", "e", "e", "e", "e")
    rig.interrupt(how)
    rig.durable.event.push("e", {"x": 1})
    assert rig.ref.result() == {"a": {"skipped": True}, "b": {"skipped": True}, "c": 0}


def test_sleeps_that_end_at_once_decide_by_precedence_and_others_by_time(bench: Bench) -> None:
    def declare(wf: Workflow) -> None:
        wf.task(name="same", wait_for=SleepCondition(HOUR), skip_if=SleepCondition(HOUR))(echo)
        wf.task(name="runs", wait_for=SleepCondition(HOUR), skip_if=SleepCondition(2 * HOUR))(echo)
        wf.task(name="zero", wait_for=SleepCondition(timedelta(0)), skip_if=SleepCondition(timedelta(0)))(echo)

    rig = Rig(bench, declare)
    rig.waits("sleep:1h", "sleep:1h", "sleep:2h", "sleep:1h")
    bench.clock.advance(10 * HOUR)
    assert rig.ref.result() == {"same": {"skipped": True}, "runs": 0, "zero": {"skipped": True}}


def test_groups_of_conditions_and_the_outputs_of_parents(bench: Bench) -> None:
    def declare(wf: Workflow) -> None:
        n = wf.task(name="n")(echo)
        high, low = ParentCondition(n, "output > 5"), ParentCondition(n, "output <= 5")
        wf.task(name="left", parents=[n], skip_if=high)(echo)
        wf.task(name="right", parents=[n], skip_if=[low])(echo)
        wf.task(name="either", parents=[n], wait_for=or_(low, event("never")))(echo)
        wf.task(name="both", parents=[n], skip_if=[low, event("never")])(echo)
        wf.task(name="input", parents=[n], skip_if=ParentCondition(n, "input == output && input == 3"))(echo)
        wf.task(name="any", parents=[n], skip_if=ParentCondition(n))(echo)

    skipped = {"skipped": True}
    assert Rig(bench, declare, 3).ref.result() == {
        "n": 3, "left": 3, "right": skipped, "either": 3, "both": 3, "input": skipped, "any": skipped
    }  # fmt: skip


def test_skip_goes_before_cancel_where_both_hold_at_once(bench: Bench) -> None:
    def declare(wf: Workflow) -> None:
        n = wf.task(name="n")(echo)
        wf.task(name="a", parents=[n], skip_if=ParentCondition(n), cancel_if=ParentCondition(n))(echo)

    assert Rig(bench, declare).ref.result() == {"n": 0, "a": {"skipped": True}}


@by_interruption
def test_a_task_whose_wait_for_can_never_become_true_is_skipped(bench: Bench, how: str) -> None:
    def declare(wf: Workflow) -> None:
        n = wf.task(name="n")(echo)
        wf.task(name="a", parents=[n], wait_for=[ParentCondition(n, "output == 1"), event("x")], cancel_if=event("y"))(echo)
        wf.task(name="end", wait_for=event("end"))(echo)

    rig = Rig(bench, declare)
    rig.waits("end")
    rig.interrupt(how)
    rig.durable.event.push("end")
    assert rig.ref.result() == {"n": 0, "a": {"skipped": True}, "end": 0}
    assert "skip a: its wait_for can never become true" in rig.asked()


def test_a_condition_that_fails_on_an_output_is_not_satisfied_and_said(bench: Bench) -> None:
    def declare(wf: Workflow) -> None:
        n = wf.task(name="n")(echo)
        wf.task(name="a", parents=[n], skip_if=ParentCondition(n, "output.rows > 5"))(echo)

    rig = Rig(bench, declare)
    assert rig.ref.result() == {"n": 0, "a": 0}
    [(line,)] = bench.rows("SELECT text FROM line")
    assert line.startswith("The condition of 'a' on its parent 'n' counts as not satisfied: The CEL expression")


@by_interruption
def test_a_skipped_parent_holds_up_nobody(bench: Bench, how: str) -> None:
    def declare(wf: Workflow) -> None:
        a = wf.task(name="a")(echo)

        @wf.task(parents=[a], skip_if=ParentCondition(a, "output == 0"))
        def skipped(input: Any, ctx: Context) -> Any:
            return {"skipped": True}

        @wf.task(parents=[a])
        def lookalike(input: Any, ctx: Context) -> Any:
            return {"skipped": True}

        @wf.durable_task(parents=[skipped, lookalike])
        async def join(input: Any, ctx: DurableContext) -> Any:
            await ctx.aio_wait_for_event("go")
            with pytest.raises(ParentOutputError, match=r"'skipped' was skipped, so 'join' gets no output of it: ask ctx.was_sk"):
                ctx.task_output(skipped)
            return [ctx.was_skipped(skipped), ctx.was_skipped(lookalike), ctx.task_output(lookalike)]

        wf.task(name="next", parents=[skipped], skip_if=ParentCondition(skipped, "output.skipped"))(echo)

    rig = Rig(bench, declare)
    wait_until(lambda: bench.rows("SELECT 1 FROM wait WHERE key = 'go'"))
    if how != "evict":
        rig.interrupt(how)
    else:
        bench.clock.advance(timedelta(hours=1))
        wait_until(lambda: bench.rows("SELECT count(*) FROM run WHERE is_evicted") == [(2,)])
    rig.durable.event.push("go")
    skipped = {"skipped": True}
    assert rig.ref.result() == {"a": 0, "skipped": skipped, "lookalike": skipped, "join": [True, False, skipped], "next": skipped}


@by_interruption
def test_a_cancelled_task_takes_its_descendants_with_it_and_the_others_go_on(bench: Bench, how: str) -> None:
    ran: list[str] = []

    def declare(wf: Workflow) -> None:
        def task(name: str, **options: Any) -> Any:
            @wf.task(name=name, **options)
            def run(input: Any, ctx: Context) -> None:
                ran.append(name)

            return run

        a = task("a")
        b = task("b", parents=[a], cancel_if=ParentCondition(a))
        c = task("c", parents=[a, b], skip_if=ParentCondition(b))
        task("d", parents=[c])
        task("other", parents=[a], wait_for=event("go"))
        for declare_last in (wf.on_success_task, wf.on_failure_task):
            declare_last(name=declare_last.__name__)(last)

    def last(input: Any, ctx: Context) -> None:
        ran.append("last")

    rig = Rig(bench, declare)
    rig.waits("go")
    rig.interrupt(how)
    rig.durable.event.push("go")
    with pytest.raises(RunCancelledError, match="was cancelled"):
        rig.ref.result()
    view = rig.durable.runs.get(rig.ref.workflow_run_id)
    assert view.status == "CANCELLED"
    assert view.error is not None
    assert view.error.message == "Workflow 'wf' was cancelled, by its task 'b'."
    assert ran == ["a", "other"]
    assert [ask for ask in rig.asked() if ask.startswith("cancel")] == [
        "cancel b: its cancel_if is true",
        "cancel c: 'b' was cancelled",
        "cancel d: 'c' was cancelled",
    ]


def test_a_cancelled_workflow_as_a_child(bench: Bench) -> None:
    durable = bench.durable()
    wf = durable.workflow(name="wf", retries=3)
    wf.task(name="a", cancel_if=SleepCondition(timedelta(0)), wait_for=event("x"))(echo)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> str:
        try:
            await wf.aio_run()
        except RunCancelledError as error:
            await ctx.aio_wait_for_event("go")
            return str(error)
        return ""

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.open_waits(ref) == ["go"])
    durable.event.push("go")
    assert ref.result() == "Workflow 'wf' was cancelled, by its task 'a'."


def test_failed_goes_before_cancelled(bench: Bench) -> None:
    def fail(input: Any, ctx: Context) -> None:
        raise ValueError("no")

    def declare(wf: Workflow) -> None:
        a = wf.task(name="a", cancel_if=SleepCondition(timedelta(0)), wait_for=event("x"))(echo)
        b = wf.task(name="b")(fail)
        wf.task(name="c", parents=[a, b])(echo)

    rig = Rig(bench, declare)
    with pytest.raises(TaskRunError, match="ValueError: no"):
        rig.ref.result()
    assert rig.durable.runs.get(rig.ref.workflow_run_id).status == "FAILED"


def test_a_task_without_wait_for_waits_for_nothing(bench: Bench) -> None:
    def declare(wf: Workflow) -> None:
        wf.task(name="a", skip_if=event("skip"), cancel_if=SleepCondition(HOUR))(echo)

    assert Rig(bench, declare).ref.result() == {"a": 0}


def test_sleeps_count_from_the_end_of_the_parents(bench: Bench) -> None:
    def declare(wf: Workflow) -> None:
        a = wf.task(name="a", wait_for=event("go"))(echo)
        wf.task(name="b", parents=[a], wait_for=SleepCondition(HOUR))(echo)

    rig = Rig(bench, declare)
    rig.waits("go")
    bench.clock.advance(5 * HOUR)
    rig.durable.event.push("go")
    rig.waits("sleep:1h")
    bench.clock.advance(HOUR - timedelta(seconds=1))
    settle(rig.durable)
    rig.waits("sleep:1h")
    bench.clock.advance(1)
    assert rig.ref.result() == {"a": 0, "b": 0}


@by_interruption
def test_a_gate_that_lost_is_given_up(bench: Bench, how: str) -> None:
    """Its conditions are gone from the log, and nothing of them arrives later."""

    def declare(wf: Workflow) -> None:
        wf.task(name="a", wait_for=event("go"), skip_if=[event("x"), event("y")])(echo)
        wf.task(name="end", wait_for=event("end"))(echo)

    rig = Rig(bench, declare)
    rig.waits("x", "y", "go", "end")
    rig.durable.event.push("x")
    rig.waits("y", "go", "end")
    rig.interrupt(how)
    rig.durable.event.push("go")
    rig.waits("end")
    rig.durable.event.push("y")
    rig.interrupt("crash")
    rig.durable.event.push("end")
    assert rig.ref.result() == {"a": 0, "end": 0}
    assert bench.rows("SELECT abandoned, seq FROM v_checkpoints WHERE ask LIKE '%skip_if%'") == [(1, None)]
