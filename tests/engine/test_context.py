"""What a task is told of its run, and what it may say and ask of it besides checkpoints."""

from __future__ import annotations

import builtins
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import UnknownRunError
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until


def said(durable: Durable, ref: Any) -> list[str]:
    return [line.text for line in durable.runs.logs(ref.workflow_run_id)]


# ---------------------------------------------------------------- what it is


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_context_tells_of_its_run(durable: Durable, kind: str) -> None:
    @getattr(durable, kind)(retries=2)  # type: ignore[untyped-decorator]
    async def tell(input: Any, ctx: Context) -> dict[str, Any]:
        if ctx.retry_count == 0:
            raise ValueError("again")
        return {
            "ids": [ctx.workflow_run_id, ctx.task_run_id],
            "input": ctx.input,
            "metadata": ctx.additional_metadata,
            "counts": [ctx.retry_count, ctx.attempt_number, ctx.max_attempts, ctx.invocation_count],
            "parent": [ctx.parent_workflow_run_id, ctx.child_index, ctx.child_key],
            "event": ctx.was_triggered_by_event,
            "replaying": ctx.is_replaying,
            "lifespan": ctx.lifespan,
        }

    ref = tell.run({"a": 1}, additional_metadata={"who": "ada"}, wait_for_result=False)
    assert ref.result() == {
        "ids": [ref.workflow_run_id] * 2,
        "input": {"a": 1},
        "metadata": {"who": "ada"},
        "counts": [1, 2, 3, 2],
        "parent": [None, None, None],
        "event": False,
        "replaying": False,
        "lifespan": None,
    }


def test_a_child_knows_its_parent(durable: Durable) -> None:
    @durable.task()
    async def child(input: Any, ctx: Context) -> list[Any]:
        return [ctx.parent_workflow_run_id, ctx.child_index, ctx.child_key]

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        items = [child.create_bulk_run_item(child_key="a"), child.create_bulk_run_item(child_key="b")]
        return await child.aio_run_many(items)

    ref = parent.run(wait_for_result=False)
    assert ref.result() == [[ref.workflow_run_id, 0, "a"], [ref.workflow_run_id, 1, "b"]]


def test_a_run_that_an_event_started_knows_it(bench: Bench, durable: Durable) -> None:
    @durable.task()
    async def told(input: Any, ctx: Context) -> bool:
        return ctx.was_triggered_by_event

    other = bench.durable(slots=Slots(durable=0, loop=0, thread=0))
    other.task(name="told")(told.function)
    ref = other.tasks["told"].run(wait_for_result=False)

    async def by_event() -> None:
        await other.engine.writer.submit(lambda connection: connection.execute("UPDATE run SET event = 'E1'").close())

    other.call(by_event, aio="")
    durable.open()
    assert ref.result() is True


# ---------------------------------------------------------------- lines


def test_lines_keep_their_order_level_attempt_and_time(bench: Bench, durable: Durable) -> None:
    @durable.task(retries=1)
    async def talk(input: Any, ctx: Context) -> None:
        ctx.log(f"attempt {ctx.attempt_number}")
        if ctx.retry_count == 0:
            ctx.log("oh no", level="ERROR")
            raise ValueError("again")
        ctx.log(["any", 1], "DEBUG")
        ctx.log("half \ud800")

    ref = talk.run(wait_for_result=False)
    ref.result()
    lines = durable.runs.logs(ref.workflow_run_id)
    assert [(line.attempt, line.level, line.text) for line in lines] == [
        (1, "INFO", "attempt 1"),
        (1, "ERROR", "oh no"),
        (2, "INFO", "attempt 2"),
        (2, "DEBUG", "['any', 1]"),
        (2, "INFO", "half \\ud800"),
    ]
    assert {line.at for line in lines} == {bench.clock.now()}


def test_an_unknown_level_is_refused(durable: Durable) -> None:
    @durable.task()
    async def talk(input: Any, ctx: Context) -> None:
        ctx.log("x", level="LOUD")  # type: ignore[arg-type]

    with pytest.raises(TaskRunError, match="no level 'LOUD': it has DEBUG, INFO, WARNING, ERROR"):
        talk.run()


def test_what_a_thread_says_last_is_written_before_its_run_ends(durable: Durable) -> None:
    @durable.task()
    def talk(input: Any, ctx: Context) -> None:
        for number in range(500):
            ctx.log(number)

    ref = talk.run(wait_for_result=False)
    ref.result()
    assert said(durable, ref) == [str(number) for number in range(500)]


def test_an_abandoned_attempt_is_not_heard_as_the_next(bench: Bench, durable: Durable) -> None:
    gate, late, contexts = threading.Event(), threading.Event(), list[Context]()

    @durable.task(execution_timeout=10)
    def stuck(input: Any, ctx: Context) -> None:
        contexts.append(ctx)
        ctx.log("in time")
        gate.wait(20)
        ctx.log("late")
        ctx.put_stream("late")
        ctx.progress(1.0)
        late.set()

    ref = stuck.run(wait_for_result=False)
    wait_until(lambda: contexts)
    bench.clock.advance(11)
    with pytest.raises(TaskRunError, match="execution_timeout"):
        ref.result()
    gate.set()
    assert late.wait(10)
    settle(durable)
    assert said(durable, ref) == ["in time"]
    assert list(ref.stream()) == []
    assert view(durable, ref).progress is None


def test_a_replay_says_nothing_again(bench: Bench, durable: Durable) -> None:
    replaying: list[bool] = []

    def declare(app: Durable, replaying: list[bool]) -> Any:
        @app.durable_task(name="talk")
        async def talk(input: Any, ctx: DurableContext) -> str:
            replaying.append(ctx.is_replaying)
            ctx.log("one")
            ctx.put_stream("1")
            ctx.progress(0.5, "half")
            await ctx.aio_sleep_for(timedelta(hours=1))
            replaying.append(ctx.is_replaying)
            ctx.log("two")
            ctx.put_stream("2")
            ctx.progress(1)
            return "done"

        return talk

    ref = declare(durable, []).run(wait_for_result=False)
    bench.asked(ref, 1)
    wait_until(lambda: said(durable, ref) == ["one"])
    bench.crash()
    again = bench.durable()
    declare(again, replaying)
    bench.clock.advance(3601)
    copy = again.runs.get_run_ref(ref.workflow_run_id)
    assert copy.result() == "done"
    assert said(again, copy) == ["one", "two"]
    assert "".join(map(str, copy.stream())) == "12"
    assert view(again, copy).progress == 1
    assert replaying == [True, False]


def test_a_replay_prints_nothing_again(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    before = builtins.print
    durable = bench.durable(slots=Slots(durable=1))

    @durable.task()
    async def helper(input: str, ctx: Context) -> None:
        print(input)

    @durable.durable_task()
    async def talk(input: int, ctx: DurableContext) -> None:
        print(input, "one")
        await ctx.aio_wait_for_event("go")
        print(input, "two")
        await helper.aio_run(f"{input} child")

    first, second = (talk.run(number, wait_for_result=False) for number in (1, 2))  # the second takes the only slot
    wait_until(lambda: len(bench.open_waits(first)) + len(bench.open_waits(second)) == 2)
    durable.event.push("go")
    first.result()
    second.result()
    print("a cell")
    durable.close()
    assert sorted(capfd.readouterr().out.splitlines()) == ["1 child", "1 one", "1 two", "2 child", "2 one", "2 two", "a cell"]
    assert builtins.print is before


def test_an_evicted_run_says_nothing_again(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=1))

    @durable.durable_task()
    async def talk(input: int, ctx: DurableContext) -> int:
        ctx.log(f"{input} one")
        await ctx.aio_wait_for_event("go")
        ctx.log(f"{input} two")
        return input

    refs = [talk.run(number, wait_for_result=False) for number in range(3)]
    wait_until(lambda: bench.rows("SELECT count(*) FROM v_waits")[0][0] == 3)
    reach(durable, refs[0], lambda run: run.is_evicted)
    durable.event.push("go")
    assert [ref.result() for ref in refs] == [0, 1, 2]
    assert [said(durable, ref) for ref in refs] == [[f"{number} one", f"{number} two"] for number in range(3)]


# ---------------------------------------------------------------- progress


def test_the_last_progress_stands_with_the_run(durable: Durable) -> None:
    gate = threading.Event()

    @durable.task()
    def work(input: Any, ctx: Context) -> None:
        for number in range(1000):
            ctx.progress(number / 1000)
        ctx.progress(0.25, "a quarter \u202e")
        gate.wait(20)

    ref = work.run(wait_for_result=False)
    run = reach(durable, ref, lambda run: run.progress == 0.25, what="the progress")
    assert run.progress_message == "a quarter \u202e"
    gate.set()
    ref.result()


@pytest.mark.parametrize("fraction", [-0.1, 1.01, float("nan"), True])
def test_a_progress_outside_of_0_and_1_is_refused(durable: Durable, fraction: float) -> None:
    @durable.task()
    async def work(input: Any, ctx: Context) -> None:
        ctx.progress(fraction)

    with pytest.raises(TaskRunError, match="give a fraction from 0 to 1"):
        work.run()


def test_progress_is_a_fact_from_which_the_run_can_be_rebuilt(bench: Bench, durable: Durable) -> None:
    @durable.task()
    async def work(input: Any, ctx: Context) -> None:
        ctx.progress(0.5, "half")

    work.run()
    rows = bench.rows("SELECT data FROM journal WHERE kind = 'progressed'")
    assert rows == [('{"progress": 0.5, "progress_message": "half"}',)]


# ---------------------------------------------------------------- time and slots


@pytest.mark.parametrize("lane", ["loop", "thread", "durable"])
def test_refresh_timeout_allows_more_work(bench: Bench, durable: Durable, lane: str) -> None:
    gate, inside = threading.Event(), list[int]()

    if lane == "thread":

        @durable.task(name="slow", execution_timeout=10)
        def in_thread(input: Any, ctx: Context) -> str:
            ctx.refresh_timeout(timedelta(seconds=20))
            inside.append(1)
            gate.wait(20)
            return "done"
    else:

        @getattr(durable, "task" if lane == "loop" else "durable_task")(name="slow", execution_timeout=10)  # type: ignore[untyped-decorator]
        async def on_loop(input: Any, ctx: Context) -> str:
            await ctx.aio_refresh_timeout("20s")
            inside.append(1)
            await opened(gate)
            return "done"

    first, second = (durable.tasks["slow"].run(wait_for_result=False) for _ in range(2))
    wait_until(lambda: len(inside) == 2)
    bench.clock.advance(25)
    settle(durable)
    assert [view(durable, ref).status for ref in (first, second)] == ["RUNNING"] * 2
    bench.clock.advance(6)
    with pytest.raises(TaskRunError, match="execution_timeout"):
        first.result()
    gate.set()


def test_a_task_that_released_its_slot_goes_on_beside_another(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(thread=1))
    gate, inside, most = threading.Event(), list[str](), list[int]()

    @durable.task()
    def patient(input: str, ctx: Context) -> str:
        ctx.release_slot()
        ctx.release_slot()
        inside.append(input)
        gate.wait(20)
        return input

    @durable.task()
    def counted(input: Any, ctx: Context) -> None:
        most.append(1)
        assert len(most) == 1, "a slot was given back twice"
        threading.Event().wait(0.02)
        most.pop()

    refs = [patient.run(name, wait_for_result=False) for name in "abc"]
    wait_until(lambda: sorted(inside) == ["a", "b", "c"])
    gate.set()
    assert [ref.result() for ref in refs] == ["a", "b", "c"]
    counted.run_many([counted.create_bulk_run_item() for _ in range(4)])


def test_a_released_slot_is_neither_lent_nor_taken_back_by_a_wait_for_a_child(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(loop=1))

    @durable.task()
    async def child(input: int, ctx: Context) -> int:
        return input

    @durable.task()
    async def parent(input: int, ctx: Context) -> int:
        await ctx.aio_release_slot()
        return sum([await child.aio_run(number) for number in range(3)])

    for _ in range(3):
        assert parent.run(0) == 3


def test_a_durable_task_is_told_that_it_gives_back_its_slot_by_waiting(durable: Durable) -> None:
    @durable.durable_task()
    async def patient(input: Any, ctx: DurableContext) -> None:
        ctx.release_slot()

    with pytest.raises(TaskRunError, match="gives back its slot while it waits"):
        patient.run()


def test_the_context_of_another_run_has_neither_time_nor_slot(durable: Durable) -> None:
    kept: list[Context] = []

    @durable.task()
    async def keep(input: Any, ctx: Context) -> None:
        kept.append(ctx)

    @durable.task()
    async def use(input: Any, ctx: Context) -> None:
        kept[0].release_slot()

    keep.run()
    with pytest.raises(TaskRunError, match="outside of its task"):
        use.run()


# ---------------------------------------------------------------- odd names


def test_half_a_character_names_no_run(durable: Durable) -> None:
    for ask in (durable.runs.get, durable.runs.logs):
        with pytest.raises(UnknownRunError, match=r"No run '\\ud800' is in this log"):
            ask("\ud800")
