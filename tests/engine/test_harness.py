"""`durable_nb.testing` for users: time goes by as it would, crashes and replays happen when they are told to, nothing hangs."""

from __future__ import annotations

import asyncio
import builtins
import doctest
import itertools
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import durable_nb.testing
from durable_nb import Context, Durable, DurableContext, SleepCondition, TaskRunError, UserEventCondition, or_
from durable_nb.errors import NotAtRestError, UnfinishedRunError
from durable_nb.log.rebuild import differences
from durable_nb.testing import Harness, clock, harness, harness as harness_function, memory_log, place
from tests.engine import operation_shapes  # noqa: F401  it adds to the corpus
from tests.engine.shapes import SHAPES, Kin, Shape, act


@pytest.fixture
def h() -> Iterator[Harness]:
    with harness() as h:
        yield h


@pytest.mark.parametrize("module", [durable_nb.testing, clock, place, __import__(harness_function.__module__, fromlist=["x"])])
def test_the_examples_of_the_docstrings_run(module: Any) -> None:
    names = {"DurableContext": DurableContext, "timedelta": timedelta}
    found = doctest.testmod(module, extraglobs=names)
    vars(builtins).pop("_", None)  # doctest leaves it there, and IPython's shells would then keep none of their own
    assert found.failed == 0
    assert found.attempted


def test_time_goes_by_as_it_would(h: Harness) -> None:
    """Whatever falls due on the way happens at its time, so that a chain of sleeps ends when it should."""

    @h.durable.durable_task()
    async def monthly(input: int, ctx: DurableContext) -> list[str]:
        days = []
        for _ in range(input):
            await ctx.aio_sleep_for(timedelta(days=10))
            days.append((await ctx.aio_now()).isoformat())
        return days

    ref = h.start(monthly, 3)
    h.advance(days=29, hours=23)
    assert h.status(ref) == "RUNNING"
    h.advance(hours=1)
    assert h.result(ref) == ["2026-01-11T00:00:00+00:00", "2026-01-21T00:00:00+00:00", "2026-01-31T00:00:00+00:00"]
    assert h.clock.now() == datetime(2026, 1, 31, tzinfo=UTC).timestamp()


def test_run_lets_time_go_by_to_the_end(h: Harness) -> None:
    @h.durable.task(retries=3, backoff_factor=60.0)
    async def shaky(input: int, ctx: Context) -> int:
        if ctx.retry_count < 2:
            raise ValueError("not yet")
        return ctx.retry_count

    @h.durable.durable_task()
    async def patient(input: None, ctx: DurableContext) -> int:
        await ctx.aio_sleep_for(timedelta(days=30))
        result: int = await shaky.aio_run(1)
        return result

    assert h.run(patient) == 2
    assert h.clock.now() - datetime(2026, 1, 31, tzinfo=UTC).timestamp() == 60 + 3600


def test_a_failure_is_raised(h: Harness) -> None:
    @h.durable.task()
    def fails(input: None, ctx: Context) -> None:
        raise ValueError("so it is")

    with pytest.raises(TaskRunError, match="so it is"):
        h.run(fails)


def test_a_result_that_cannot_come_is_said_and_not_waited_for(h: Harness) -> None:
    @h.durable.durable_task()
    async def waits(input: None, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for("w", UserEventCondition("approve"), or_(UserEventCondition("b"), UserEventCondition("c")))

    with pytest.raises(
        UnfinishedRunError, match=r"of 'waits' has not ended: it waits for approve, b, c\. Let time go by, or push"
    ):
        h.run(waits)


def test_a_task_of_another_app_object_is_refused(h: Harness) -> None:
    with harness() as other:

        @other.durable.task()
        async def foreign(input: None, ctx: Context) -> None:
            return None

        with pytest.raises(UnfinishedRunError, match="not declared on an app object of this harness"):
            h.start(foreign)


def test_work_that_does_not_end_is_named() -> None:
    gate = threading.Event()
    with harness(patience=0.2) as h:

        @h.durable.task()
        def stuck(input: None, ctx: Context) -> None:
            gate.wait()

        with pytest.raises(
            NotAtRestError, match=r"After 0\.2 s the engines are still not at rest: run \w+ of 'stuck' is at work"
        ):
            h.start(stuck)
        gate.set()


def test_work_in_a_thread_and_on_the_loop_is_waited_for(h: Harness) -> None:
    @h.durable.task()
    async def slow(input: float, ctx: Context) -> float:
        await asyncio.sleep(input)
        return input

    @h.durable.task()
    def parent(input: list[float], ctx: Context) -> Any:
        return [slow.run(seconds) for seconds in input]

    ref = h.start(parent, [0.05, 0.1])
    assert h.result(ref) == [0.05, 0.1]


def test_a_regular_parent_of_a_sleeping_child_is_at_rest(h: Harness) -> None:
    @h.durable.durable_task()
    async def sleeper(input: int, ctx: DurableContext) -> int:
        await ctx.aio_sleep_for(timedelta(days=input))
        return input

    @h.durable.task()
    def parent(input: int, ctx: Context) -> Any:
        return sleeper.run(input)

    ref = h.start(parent, 3)
    assert h.status(ref) == "RUNNING"
    h.advance(days=3)
    assert h.result(ref) == 3


def test_an_event_is_pushed_when_it_is_awaited(h: Harness) -> None:
    @h.durable.durable_task()
    async def two(input: None, ctx: DurableContext) -> list[Any]:
        await ctx.aio_sleep_for(timedelta(days=1))
        first = await ctx.aio_wait_for_event("a", scope="s")
        return [first, await ctx.aio_wait_for_event("a", scope="t")]

    h.push_when_awaited("a", 1, scope="s")
    h.push_when_awaited("a", 2, scope="t")
    assert h.run(two) == [1, 2]


def test_it_is_pushed_at_once_where_it_is_awaited_already(h: Harness) -> None:
    @h.durable.durable_task()
    async def one(input: None, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("a")

    ref = h.start(one)
    h.push_when_awaited("a", {"n": 1})
    assert h.result(ref) == {"n": 1}


def test_push_settles(h: Harness) -> None:
    @h.durable.durable_task()
    async def one(input: None, ctx: DurableContext) -> Any:
        return [await ctx.aio_wait_for_event(key) for key in ("a", "b")]

    ref = h.start(one)
    h.push("b", "too early")
    h.push("a", 1)
    h.push("b", 2)
    assert h.result(ref) == [1, 2]


# ---------------------------------------------------------------- eviction and replay


def test_evict_evicts_and_the_next_event_brings_it_back(h: Harness) -> None:
    entered = []

    @h.durable.durable_task(eviction_policy=None)
    async def waits(input: None, ctx: DurableContext) -> Any:
        entered.append(ctx.invocation_count)
        return await ctx.aio_wait_for_event("go")

    ref = h.start(waits)
    assert h.evict() == 1
    assert h.view(ref).is_evicted
    h.push("go", 1)
    assert h.result(ref) == 1
    assert entered == [1, 2]


def test_always_replay_enters_the_function_at_every_wait_and_at_its_end() -> None:
    entered = []
    with harness(always_replay=True) as h:

        @h.durable.durable_task(eviction_policy=None)
        async def main(input: None, ctx: DurableContext) -> int:
            entered.append(ctx.invocation_count)
            await ctx.aio_sleep_for(timedelta(days=1))
            await ctx.aio_wait_for_event("go")
            return 7

        h.push_when_awaited("go")
        ref = h.start(main)
        h.advance(days=1)
        assert h.result(ref) == 7
        assert h.view(ref).retry_count == 0
    assert entered == [1, 2, 3, 4]


def test_always_replay_finds_chance_before_a_wait() -> None:
    with harness(always_replay=True) as h:

        @h.durable.durable_task()
        async def chancy(input: None, ctx: DurableContext) -> None:
            await ctx.aio_sleep_for(timedelta(seconds=random.random() + 1))
            await ctx.aio_sleep_for(timedelta(seconds=1))

        with pytest.raises(UnfinishedRunError, match=r"of 'chancy' has not ended: it is blocked\. It diverged: checkpoint 1 was"):
            h.run(chancy)


@pytest.mark.parametrize("asks_first", [1, 2])
def test_always_replay_finds_what_differs_after_the_last_wait(asks_first: int) -> None:
    """Less than before at the last replay, or more."""
    entered = []
    with harness(always_replay=True) as h:

        @h.durable.durable_task()
        async def drifts(input: None, ctx: DurableContext) -> None:
            entered.append(1)
            for _ in range(asks_first if len(entered) == 1 else 3 - asks_first):
                await ctx.aio_memo(int, int)

        with pytest.raises(UnfinishedRunError, match=r"It diverged: checkpoint 2 was recorded as"):
            h.run(drifts)


class Player:
    """Plays a shape on a harness: the same script that the engine's own tests play."""

    def __init__(self, h: Harness, shape: Shape) -> None:
        self.h = h

        @h.durable.durable_task()
        async def gate(input: str, ctx: DurableContext) -> str:
            await ctx.aio_wait_for_event(input)
            return input

        @h.durable.durable_task()
        async def fails(input: str, ctx: DurableContext) -> str:
            await ctx.aio_wait_for_event(input)
            raise RuntimeError(f"{input} failed")

        @h.durable.task()
        async def quick(input: str, ctx: Context) -> str:
            return input

        @h.durable.durable_task()
        async def main(input: Any, ctx: DurableContext) -> Any:
            result = await shape.body(ctx, Kin(gate, fails, quick))
            await ctx.aio_wait_for_event("end")
            return result

        ref = h.start(main)
        for action, _ in shape.script:
            act(h.durable, action, advance=h.advance)
            h.settle()
        h.push("end")
        assert h.result(ref) == shape.result


@pytest.mark.parametrize("name", SHAPES)
def test_no_shape_of_the_corpus_is_changed_by_always_replay(name: str) -> None:
    with harness(always_replay=True) as h:
        Player(h, SHAPES[name])


# ---------------------------------------------------------------- crashes


def declare(h: Harness, executed: list[str]) -> Any:
    def double(number: int) -> int:
        executed.append("memo")
        return number * 2

    @h.durable.task()
    async def square(input: int, ctx: Context) -> int:
        executed.append(f"square {input}")
        return input * input

    @h.durable.durable_task()
    async def total(input: int, ctx: DurableContext) -> int:
        first: int = await ctx.aio_memo(double, int, input)
        squares: list[int] = await square.aio_run_many([square.create_bulk_run_item(number) for number in range(input)])
        await ctx.aio_sleep_for(timedelta(days=1))
        answer = await ctx.aio_wait_for("a", or_(UserEventCondition("go"), SleepCondition(timedelta(days=1))))
        return int(first) + int(sum(squares)) + len(answer["CREATE"])

    return total


@pytest.mark.parametrize("when", ["crash_at", "crash_before_commit"])
def test_no_crash_point_changes_the_result(when: str) -> None:
    for number in itertools.count(1):
        executed: list[str] = []
        with harness() as h:
            total = declare(h, executed)
            getattr(h, when)(number)
            h.push_when_awaited("go")
            assert h.run(total, 3) == 6 + 5 + 1
            assert max(executed.count(what) for what in executed) <= 1 + h.crashes
            assert len(h.durable.runs.list(task="total")) == 1
            h.durable.close()
            assert_state_follows_from_facts(h)
            if not h.crashes:
                break
    assert number > 6


def assert_state_follows_from_facts(h: Harness) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(h.path, isolation_level=None)) as connection:
        assert differences(connection) == []


def test_a_crash_in_the_middle_of_a_wait_keeps_the_deadline(h: Harness) -> None:
    @h.durable.durable_task()
    async def day(input: None, ctx: DurableContext) -> float:
        return (await ctx.aio_sleep_for(timedelta(hours=24))).elapsed.total_seconds()

    ref = h.start(day)
    h.advance(hours=23)
    h.crash()
    h.advance(hours=1)
    assert h.result(ref) == 24 * 3600
    assert h.crashes == 1


def test_a_push_at_a_crash_point_is_accepted_once(h: Harness) -> None:
    @h.durable.durable_task()
    async def waits(input: None, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    for when in (h.crash_at, h.crash_before_commit):
        for number in (1, 2, 3):
            ref = h.start(waits)
            when(number)
            h.push("go", number)
            h.crash()
            assert h.result(ref) == number
    rows = h.durable.call(
        lambda: h.durable.engine.reader.run(lambda c: c.execute("SELECT count(*) FROM event").fetchone()), aio=""
    )
    assert rows == (6,)


def test_another_app_object_takes_over_from_a_killed_one(h: Harness) -> None:
    other = h.another()
    seen = []

    def serve(app: Durable, name: str) -> Any:
        @app.durable_task()
        async def waits(input: None, ctx: DurableContext) -> Any:
            seen.append(name)
            return await ctx.aio_wait_for_event("go")

        return waits

    task = serve(h.durable, "first")
    serve(other, "second")
    ref = h.start(task)
    other.open()
    h.crash(h.durable)
    h.push("go", 1)
    assert h.result(ref) == 1
    assert len(seen) == 2


def test_an_engine_whose_last_commit_fails_is_closed_all_the_same(h: Harness) -> None:
    """Its lock and connections are let go, so that the next engine takes its runs over."""

    @h.durable.durable_task()
    async def waits(input: None, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    ref = h.start(waits)
    h.crash_before_commit(1)
    h.durable.close()
    assert not h.durable.is_open
    h.settle()
    assert h.crashes == 1
    h.push("go", 1)
    assert h.result(ref) == 1


@pytest.mark.parametrize("number", [0, -1])
def test_a_crash_point_that_does_not_exist_is_refused(h: Harness, number: int) -> None:
    with pytest.raises(ValueError, match="commits are counted from 1"):
        h.crash_at(number)


# ---------------------------------------------------------------- the place


def test_the_log_is_gone_at_the_end() -> None:
    with harness() as h:
        path = h.path
        assert path.exists()
    assert not path.parent.exists()


def test_two_memory_logs_are_two(tmp_path: Any) -> None:
    with memory_log() as one, memory_log() as two:
        assert one != two
        assert one.parent.exists()
    assert not one.parent.exists()


def test_the_users_keys_are_left_alone(tmp_path: Any) -> None:
    with harness() as h:
        assert h.durable.keyring.folder.parent == h.path.parent
