"""Concurrency: so many runs of a key at once, over all processes, whatever happens to those that hold a place."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_nb import ConcurrencyExpression, ConcurrencyLimitStrategy, Context, Durable, DurableContext, EvictionPolicy
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import DeclarationError, InputValidationError, RunCancelledError, TaskRunError
from durable_nb.log import queue
from durable_nb.log.connection import open_sqlite, prepare
from durable_nb.log.ids import new_id
from durable_nb.log.needs import Need
from durable_nb.log.records import NewRun
from durable_nb.log.serving import Served
from durable_nb.log.starting import start_run
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until

BY_USER = ConcurrencyExpression("input.user", max_runs=1)
CANCEL_OLD = ConcurrencyExpression("input.user", 1, ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS)
CANCEL_NEW = ConcurrencyExpression("input.user", 1, ConcurrencyLimitStrategy.CANCEL_NEWEST)


class Work:
    """A task that is at work until its gate opens, and tells how many were at once."""

    def __init__(self, *durables: Durable, **options: Any) -> None:
        self.now = Counter[str]()
        self.most = Counter[str]()
        self.order: list[Any] = []
        self.gate = threading.Event()
        for durable in durables:
            self.declare(durable, options)

    def declare(self, durable: Durable, options: dict[str, Any]) -> None:
        @durable.task(name="work", **options)
        async def work(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
            user = str(input.get("user"))
            self.now[user] += 1
            self.most[user] = max(self.most[user], self.now[user])
            self.order.append(input.get("n", user))
            await opened(self.gate)
            self.now[user] -= 1
            return input

    def start(self, durable: Durable, *inputs: dict[str, Any], **options: Any) -> list[Any]:
        task = durable.tasks["work"]
        items = [task.create_bulk_run_item(input=item, **options) for item in inputs]
        return task.run_many(items, wait_for_result=False)


def running(bench: Bench) -> int:
    return int(bench.rows("SELECT count(*) FROM run WHERE task = 'work' AND status = 'RUNNING'")[0][0])


def leaked(bench: Bench) -> list[Any]:
    """What is left of places and lineups when all runs have ended."""
    return bench.rows("SELECT * FROM place WHERE state IS NOT NULL") + bench.rows("SELECT number FROM run WHERE gate < 2")


# ---------------------------------------------------------------- how many at once


@pytest.mark.parametrize("concurrency", [2, ConcurrencyExpression(max_runs=2), [ConcurrencyExpression("'all'", 2)]])
def test_no_more_than_max_runs_are_at_work_at_once(bench: Bench, durable: Durable, concurrency: Any) -> None:
    work = Work(durable, concurrency=concurrency)
    refs = work.start(durable, *({"user": "a", "n": n} for n in range(6)))
    wait_until(lambda: work.now["a"] == 2)
    settle(durable)
    assert running(bench) == 2
    work.gate.set()
    assert [ref.result()["n"] for ref in refs] == list(range(6))
    assert work.most["a"] == 2
    assert sorted(work.order) == list(range(6))
    assert leaked(bench) == []


def test_each_key_has_its_own_places(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=BY_USER)
    refs = work.start(durable, *({"user": user, "n": n} for user in "abc" for n in range(3)))
    wait_until(lambda: sum(work.now.values()) == 3)
    settle(durable)
    assert set(work.now.values()) == {1}
    work.gate.set()
    for ref in refs:
        ref.result()
    assert set(work.most.values()) == {1}


def test_keys_may_be_numbers_and_bools_and_come_from_metadata(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=ConcurrencyExpression("additional_metadata.tenant"))
    work.start(durable, {"user": "x"}, additional_metadata={"tenant": 7})
    work.start(durable, {"user": "y"}, additional_metadata={"tenant": 7})
    work.start(durable, {"user": "z"}, additional_metadata={"tenant": True})
    wait_until(lambda: work.now["x"] + work.now["z"] == 2)
    settle(durable)
    assert work.now["y"] == 0
    work.gate.set()
    assert bench.rows("SELECT key FROM crowd ORDER BY key") == [("7",), ("true",)]


def test_an_expression_that_fails_on_the_input_writes_nothing(bench: Bench, durable: Durable) -> None:
    Work(durable, concurrency=BY_USER)
    with pytest.raises(
        InputValidationError, match=r"'work' was not started, since its concurrency expression .* no field 'user'"
    ):
        durable.tasks["work"].run({"name": 1})
    with pytest.raises(InputValidationError, match=r"concurrency expression `input.user` gives list; a key is text"):
        durable.tasks["work"].run({"user": []})
    assert bench.count("run") == bench.count("crowd") == bench.count("place") == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (0, r"max_runs=0: give a whole number, 1 or more"),
        (ConcurrencyExpression, r"give a number, a ConcurrencyExpression, or a list"),
        ([BY_USER, BY_USER], r"names one expression twice"),
        (ConcurrencyExpression("input.user =="), r"option concurrency of task 'work' cannot work.*does not compile"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(durable: Durable, option: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        Work(durable, concurrency=option)
    assert "work" not in durable.tasks


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"limit_strategy='FIFO' is unknown: give one of ConcurrencyLimitStrategy"):
        ConcurrencyExpression("input.a", 1, "FIFO")  # type: ignore[arg-type]


# ---------------------------------------------------------------- who is next


def test_keys_take_turns(bench: Bench) -> None:
    """A key with many runs that were queued first does not keep another waiting."""
    durable = bench.durable(slots=Slots(1, 1, 1))
    work = Work(durable, concurrency=ConcurrencyExpression("input.user", max_runs=10))
    refs = work.start(durable, *({"user": "a", "n": f"a{n}"} for n in range(6)))
    refs += work.start(durable, *({"user": "b", "n": f"b{n}"} for n in range(3)))
    work.gate.set()
    for ref in refs:
        ref.result()
    assert work.order[:7] in (
        ["a0", "b0", "a1", "b1", "a2", "b2", "a3"],
        ["a0", "a1", "b0", "a2", "b1", "a3", "b2"],  # a1 was let in before b0 was written
    )


def test_the_more_urgent_run_is_next_in_its_key(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=BY_USER)
    refs = work.start(durable, {"user": "a", "n": "first"})
    wait_until(lambda: work.order == ["first"])
    refs += work.start(durable, {"user": "a", "n": "low"}, priority=1)
    refs += work.start(durable, {"user": "a", "n": "high"}, priority=3)
    work.gate.set()
    for ref in refs:
        ref.result()
    assert work.order == ["first", "high", "low"]


def test_a_more_urgent_run_takes_the_place_of_one_that_nobody_has_claimed(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=BY_USER)
    durable.open()
    durable.tasks["work"].pause()
    refs = work.start(durable, {"user": "a", "n": "low"}, priority=1)
    refs += work.start(durable, {"user": "a", "n": "high"}, priority=3)
    durable.tasks["work"].unpause()
    work.gate.set()
    for ref in refs:
        ref.result()
    assert work.order == ["high", "low"]
    assert leaked(bench) == []


def test_several_expressions_must_all_admit_and_one_that_is_full_stops_nobody_else(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=[BY_USER, ConcurrencyExpression("'all'", max_runs=2)])
    refs = work.start(durable, *({"user": user, "n": f"{user}{n}"} for user in "aab" for n in range(2)))
    wait_until(lambda: work.now["a"] == work.now["b"] == 1)
    refs += work.start(durable, {"user": "c", "n": "c0"})
    settle(durable)
    assert running(bench) == 2
    work.gate.set()
    for ref in refs:
        ref.result()
    assert max(work.most.values()) == 1
    assert len(work.order) == 7
    assert leaked(bench) == []


# ---------------------------------------------------------------- the strategies that cancel


def test_the_newest_cancels_the_one_in_progress(bench: Bench, durable: Durable) -> None:
    asked = threading.Event()

    @durable.durable_task(concurrency=CANCEL_OLD)
    async def wait(input: dict[str, Any], ctx: DurableContext) -> Any:
        asked.set()
        return await ctx.aio_wait_for_event(f"go:{input['n']}")

    [first, other, second] = [
        wait.run({"user": user, "n": n}, wait_for_result=False) for user, n in (("a", 1), ("b", 2), ("a", 3))
    ]
    with pytest.raises(RunCancelledError):
        first.result()
    assert "CANCEL_IN_PROGRESS" in view(durable, first).error.message  # type: ignore[union-attr]
    bench.asked(second, 1)
    bench.asked(other, 1)
    for number in (2, 3):
        durable.event.push(f"go:{number}", number)
    assert (other.result(), second.result()) == (2, 3)
    assert leaked(bench) == []


def test_with_several_places_the_oldest_goes(bench: Bench, durable: Durable) -> None:
    two = ConcurrencyExpression("input.user", 2, ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS)

    @durable.durable_task(concurrency=two)
    async def wait(input: dict[str, Any], ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    refs = [wait.run({"user": "a"}, wait_for_result=False) for _ in range(4)]
    for ref in refs[:2]:
        with pytest.raises(RunCancelledError):
            ref.result()
    for ref in refs[2:]:
        bench.asked(ref, 1)
    durable.event.push("go", 1)
    assert [ref.result() for ref in refs[2:]] == [1, 1]


def test_the_newest_is_cancelled(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=CANCEL_NEW)
    [first] = work.start(durable, {"user": "a"})
    with pytest.raises(RunCancelledError):
        durable.tasks["work"].run({"user": "a"})
    [other] = work.start(durable, {"user": "b"})
    work.gate.set()
    assert first.result() == {"user": "a"}
    assert other.result() == {"user": "b"}
    assert durable.tasks["work"].run({"user": "a"}) == {"user": "a"}
    assert leaked(bench) == []


def test_a_child_that_is_cancelled_at_birth_is_told_to_its_parent_live_and_in_replay(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=CANCEL_NEW)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        said: list[Any] = []
        held = await durable.tasks["work"].aio_run({"user": "a"}, wait_for_result=False)
        try:
            await durable.tasks["work"].aio_run({"user": "a"})
        except RunCancelledError:
            said.append("cancelled")
        await ctx.aio_wait_for_event("go")
        return [*said, await held.aio_result()]

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 3)
    durable.close()
    durable.open()
    work.gate.set()
    durable.event.push("go")
    assert ref.result() == ["cancelled", {"user": "a"}]


def test_a_childs_place_is_waited_for_without_holding_up_its_parent(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=1)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        task = durable.tasks["work"]
        return await task.aio_run_many([task.create_bulk_run_item({"user": "a", "n": n}) for n in range(3)])

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: work.now["a"] == 1)
    settle(durable)
    assert running(bench) == 1
    work.gate.set()
    assert [item["n"] for item in ref.result()] == [0, 1, 2]
    assert work.most["a"] == 1


# ---------------------------------------------------------------- who holds a place


def test_an_evicted_run_holds_its_place(bench: Bench, durable: Durable) -> None:
    @durable.durable_task(concurrency=1)
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event(f"go:{input}")

    first = wait.run(1, wait_for_result=False)
    bench.asked(first, 1)
    second = wait.run(2, wait_for_result=False)
    bench.clock.advance(3600)
    reach(durable, first, lambda run: run.is_evicted)
    settle(durable)
    assert view(durable, second).status == "QUEUED"
    durable.event.push("go:1", "one")
    assert first.result() == "one"
    bench.asked(second, 1)
    durable.event.push("go:2", "two")
    assert second.result() == "two"


def test_a_run_that_waits_for_its_retry_holds_its_place(bench: Bench, durable: Durable) -> None:
    tried: list[Any] = []

    @durable.task(concurrency=1, retries=1, backoff_factor=60)
    async def flaky(input: int, ctx: Context) -> int:
        tried.append((input, ctx.retry_count))
        if input == 1 and ctx.retry_count == 0:
            raise ValueError("once more")
        return input

    first, second = flaky.run(1, wait_for_result=False), flaky.run(2, wait_for_result=False)
    reach(durable, first, lambda run: run.retry_count == 1)
    settle(durable)
    assert tried == [(1, 0)]
    bench.clock.advance(61)
    assert (first.result(), second.result()) == (1, 2)
    assert tried == [(1, 0), (1, 1), (2, 0)]


@pytest.mark.parametrize("ending", ["failed", "timed out"])
def test_a_place_is_given_back_however_its_run_ends(bench: Bench, durable: Durable, ending: str) -> None:
    gate = threading.Event()

    @durable.task(concurrency=1, execution_timeout=60)
    async def work(input: int, ctx: Context) -> int:
        if input == 1:
            if ending == "failed":
                raise ValueError
            await asyncio.sleep(3600)
        return input

    first, second = work.run(1, wait_for_result=False), work.run(2, wait_for_result=False)
    gate.set()
    if ending == "timed out":
        reach(durable, first, lambda run: run.status == "RUNNING")
        settle(durable)
        bench.clock.advance(61)
    with pytest.raises(TaskRunError):
        first.result()
    assert second.result() == 2


def test_one_that_leaves_the_queue_holds_up_nobody(bench: Bench, durable: Durable) -> None:
    """A run whose schedule_timeout is over while it stands in its lineup."""
    work = Work(durable, concurrency=1, schedule_timeout=30)
    [first] = work.start(durable, {"user": "a", "n": 1})
    wait_until(lambda: work.now["a"] == 1)
    [late] = work.start(durable, {"user": "a", "n": 2})
    bench.clock.advance(31)
    with pytest.raises(TaskRunError, match="schedule_timeout"):
        late.result()
    [third] = work.start(durable, {"user": "a", "n": 3})
    work.gate.set()
    assert (first.result()["n"], third.result()["n"]) == (1, 3)
    assert leaked(bench) == []


def test_after_a_crash_places_are_held_by_the_same_runs(bench: Bench, durable: Durable) -> None:
    held = Work(durable, concurrency=2)
    held.start(durable, *({"user": "a", "n": n} for n in range(5)))
    wait_until(lambda: held.now["a"] == 2)
    bench.crash()
    again = bench.durable()
    work = Work(again, concurrency=2)
    again.open()
    wait_until(lambda: work.now["a"] == 2)
    settle(again)
    assert sorted(work.order) == sorted(held.order)
    work.gate.set()
    wait_until(lambda: len(work.order) == 5)
    held.gate.set()
    wait_until(lambda: leaked(bench) == [])
    assert work.most["a"] == 2


def test_a_raised_limit_holds_for_those_that_wait(bench: Bench, durable: Durable) -> None:
    work = Work(durable, concurrency=1)
    work.start(durable, *({"user": "a", "n": n} for n in range(3)))
    wait_until(lambda: work.now["a"] == 1)
    work.declare(durable, {"concurrency": 4})
    work.start(durable, {"user": "a", "n": 3})
    wait_until(lambda: work.now["a"] == 4)
    work.gate.set()


# ---------------------------------------------------------------- several engines


def test_two_engines_that_claim_one_key_at_once_keep_its_limit(bench: Bench) -> None:
    a, b = bench.durable(clock=SystemClock()), bench.durable(clock=SystemClock())
    seen, lock, now, most = list[str](), threading.Lock(), [0], [0]

    def declare(durable: Durable, name: str) -> None:
        @durable.task(concurrency=3)
        def work(input: int, ctx: Context) -> int:
            with lock:
                seen.append(name)
                now[0] += 1
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.002)
            with lock:
                now[0] -= 1
            return input

    declare(a, "a")
    declare(b, "b")
    for durable in (a, b):
        durable.open()

    def start(number: int) -> int:
        return int((a, b)[number % 2].tasks["work"].run(number))

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(start, range(120))) == list(range(120))
    assert most[0] <= 3
    assert set(seen) == {"a", "b"}
    assert len(seen) == 120
    wait_until(lambda: leaked(bench) == [])


HOLDER = """
import sys, threading
from durable_nb import Durable

durable = Durable(sys.argv[1])

@durable.task(concurrency=1)
def work(input, ctx):
    print("at work", flush=True)
    threading.Event().wait()

refs = [work.run(number, wait_for_result=False) for number in range(3)]
threading.Event().wait()
"""


@pytest.mark.slow
def test_the_place_of_a_killed_process_is_held_until_its_run_was_taken_over(bench: Bench, tmp_path: Path) -> None:
    b = bench.durable(clock=SystemClock())
    b.open()
    script = tmp_path / "holder.py"
    script.write_text(HOLDER)
    command = [sys.executable, str(script), str(bench.path)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "at work\n"
            wait_until(lambda: bench.count("run") == 3)
        finally:
            holder.kill()
    order: list[int] = []

    @b.task(concurrency=1)
    async def work(input: int, ctx: Context) -> int:
        order.append(input)
        return input

    wait_until(lambda: len(order) == 3)
    assert order == [0, 1, 2]
    wait_until(lambda: leaked(bench) == [])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_limits_hold_and_no_place_is_left(bench: Bench, seed: int) -> None:
    """Retries, failures, evictions and cancels on three engines, one of which is closed in the middle."""
    chance, lock, now, wrong = random.Random(seed), threading.Lock(), Counter[str](), list[Any]()
    engines = [
        bench.durable(clock=SystemClock(), slots=Slots(chance.choice([2, 50]), chance.choice([2, 50]), 2)) for _ in range(3)
    ]
    for durable in engines:

        @durable.task(concurrency=[ConcurrencyExpression("input.user", 2), ConcurrencyExpression("'all'", 4)], retries=1)
        async def work(input: dict[str, Any], ctx: Context) -> None:
            with lock:
                now[input["user"]] += 1
                if now[input["user"]] > 2 or now.total() > 4:
                    wrong.append(dict(now))
            await asyncio.sleep(0.003)
            with lock:
                now[input["user"]] -= 1
            if input["n"] % 7 == 0:
                raise ValueError

        policy = EvictionPolicy(ttl=timedelta(milliseconds=5))

        @durable.durable_task(concurrency=ConcurrencyExpression("input.user", 3), eviction_policy=policy)
        async def wait(input: dict[str, Any], ctx: DurableContext) -> None:
            await ctx.aio_sleep_for(timedelta(milliseconds=20))

        @durable.task(concurrency=CANCEL_OLD)
        async def newest(input: dict[str, Any], ctx: Context) -> None:
            await asyncio.sleep(0.003)

        durable.open()
    for n in range(120):
        task = chance.choice(engines[: 2 if n > 60 else 3]).tasks[chance.choice(["work", "work", "wait", "newest"])]
        task.run({"user": chance.choice("xyz"), "n": n}, wait_for_result=False, priority=chance.choice([1, 2, 3]))
        if n == 60:
            engines[2].close()
    wait_until(lambda: bench.rows("SELECT count(*) FROM run WHERE status IN ('QUEUED', 'RUNNING')") == [(0,)], 30)
    assert wrong == []
    assert leaked(bench) == []


# ---------------------------------------------------------------- many


def steps_of_a_claim(path: Path, runs: int) -> int:
    """Give SQLite's steps for one claim of 10 slots in a log with so many queued runs of one key, in units of 100."""
    prepare(path)
    with closing(open_sqlite(path)) as connection:
        connection.execute("BEGIN")
        for number in range(runs):
            need = Need(kind="runs", task="work", expression="", key="", most=5)
            run = NewRun(id=new_id(), task="work", kind="task", version=None, input=str(number), needs=(need,))
            start_run(connection, run, at=1.0, worker=None)
        connection.execute("COMMIT")
        steps = [0]

        def count() -> None:
            steps[0] += 1

        connection.set_progress_handler(count, 100)
        claimed = queue.claim_ready(connection, Served.of("", ["work"], []), worker="w", slots=10, at=2.0)
        assert len(claimed.claims) == 5
        return steps[0]


def test_a_claim_reads_as_many_runs_as_it_takes_however_many_of_a_key_wait(tmp_path: Path) -> None:
    few, many = (steps_of_a_claim(tmp_path / f"{runs}.db", runs) for runs in (100, 10_000))
    assert many <= 2 * few + 10
