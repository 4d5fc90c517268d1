"""Two engines on one log: each owns its runs, both see the log's events, and a run goes to whoever knows its task."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.engine.clock import SystemClock
from tests.engine.helpers import Bench, opened, reach, view, wait_until


def serve(durable: Durable, name: str, ran: list[tuple[str, Any]]) -> Durable:
    """Declare `wait` (durable) and `work` (regular), which tell who ran them."""

    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> list[Any]:
        ran.append((name, input))
        return [name, await ctx.aio_wait_for_event("go")]

    @durable.task()
    async def work(input: Any, ctx: Context) -> Any:
        ran.append((name, input))
        return input

    return durable


@pytest.fixture
def ran() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def a(bench: Bench, ran: list[tuple[str, Any]]) -> Durable:
    return serve(bench.durable(clock=SystemClock()), "a", ran).open()


@pytest.fixture
def b(bench: Bench, a: Durable, ran: list[tuple[str, Any]]) -> Durable:
    return serve(bench.durable(clock=SystemClock()), "b", ran).open()


def test_an_event_pushed_through_the_other_is_seen_at_once(bench: Bench, a: Durable, b: Durable) -> None:
    """Within 100 ms of real time; the best of a few counts, since a machine may be busy."""
    took = []
    for number in range(8):
        ref = a.tasks["wait"].run(number, wait_for_result=False)
        bench.asked(ref, 1)
        started = time.monotonic()
        b.event.push("go", number)
        _, payload = ref.result()
        took.append(time.monotonic() - started)
        assert payload == number
    assert min(took) < 0.1


def test_both_take_part_and_no_run_is_executed_twice(a: Durable, b: Durable, ran: list[tuple[str, Any]]) -> None:
    def start(number: int) -> Any:
        return (a, b)[number % 2].tasks["work"].run(number)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(start, range(200))) == list(range(200))
    assert sorted(number for _, number in ran) == list(range(200))
    assert {name for name, _ in ran} == {"a", "b"}


def test_a_result_is_awaited_through_the_other(bench: Bench, a: Durable, b: Durable) -> None:
    ref = a.tasks["wait"].run(1, wait_for_result=False)
    bench.asked(ref, 1)
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(b.runs.get_run_ref(ref.workflow_run_id).result)
        b.event.push("go", "x")
        assert waiter.result(10)[1] == "x"


def test_a_run_goes_to_the_engine_that_knows_its_task(a: Durable, b: Durable, ran: list[tuple[str, Any]]) -> None:
    @b.task()
    async def only_b(input: Any, ctx: Context) -> str:
        ran.append(("b", input))
        return f"b did {input}"

    item = only_b.create_bulk_run_item(input=7)
    [ref] = a.call(lambda: a.aio_start(only_b, [item], wait=False), aio="")
    assert a.runs.get_run_ref(ref.workflow_run_id).result() == "b did 7"
    assert ran == [("b", 7)]


def test_a_child_that_only_the_other_knows(a: Durable, b: Durable) -> None:
    @b.task()
    async def only_b(input: int, ctx: Context) -> int:
        return input + 1

    @a.durable_task()
    async def only_a(input: int, ctx: DurableContext) -> int:
        first = await a.aio_start(only_b, [only_b.create_bulk_run_item(input=input)], wait=True)
        return int(first[0]) * 10

    assert only_a.run(1) == 20


def test_closing_one_hands_its_runs_to_the_other(bench: Bench, a: Durable, b: Durable) -> None:
    ref = a.tasks["wait"].run(1, wait_for_result=False)
    bench.asked(ref, 1)
    a.close()
    b.event.push("go", "x")
    assert b.runs.get_run_ref(ref.workflow_run_id).result() == ["b", "x"]


def test_a_living_owner_keeps_its_run(bench: Bench, a: Durable, b: Durable, ran: list[tuple[str, Any]]) -> None:
    gate, entered = threading.Event(), list[str]()

    def declare(durable: Durable, name: str) -> None:
        @durable.task()
        async def slow(input: Any, ctx: Context) -> str:
            entered.append(name)
            await opened(gate)
            return name

    declare(a, "a")
    ref = a.tasks["slow"].run(wait_for_result=False)
    wait_until(lambda: entered == ["a"])
    declare(b, "b")
    owner = view(b, ref).owner
    for number in range(50):  # the other is at work all the while
        b.tasks["work"].run(number)
    assert view(b, ref).owner == owner
    gate.set()
    assert b.runs.get_run_ref(ref.workflow_run_id).result() == "a"
    assert entered == ["a"]


SEEN = """
import sys, threading
from durable_nb import Durable

durable = Durable(sys.argv[1])

@durable.task()
async def told(input, ctx):
    return input

told.run(1)
print("told", flush=True)
threading.Event().wait()
"""


def test_a_second_engine_in_one_process_does_not_blind_the_first(bench: Bench, a: Durable, b: Durable, tmp_path: Path) -> None:
    """Whatever is opened and closed beside SQLite on the log's file takes away this process's locks on it."""
    script = tmp_path / "seen.py"
    script.write_text(SEEN)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(script), str(bench.path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "told\n"
            wait_until(lambda: [run.output for run in a.runs.list(task="told")] == ["1"], 3)
            assert [run.output for run in b.runs.list(task="told")] == ["1"]
        finally:
            other.kill()


OWNER = """
import sys, threading
from durable_nb import Durable

durable = Durable(sys.argv[1])

@durable.durable_task()
async def wait(input, ctx):
    return ["child process", await ctx.aio_wait_for_event("go")]

@durable.task()
def stuck(input, ctx):
    print("at work", flush=True)
    threading.Event().wait()

refs = [wait.run(1, wait_for_result=False), stuck.run(2, wait_for_result=False)]
threading.Event().wait()
"""


@pytest.mark.slow
def test_a_killed_owners_runs_are_taken_over_within_two_seconds(
    bench: Bench, b: Durable, a: Durable, ran: list[tuple[str, Any]], tmp_path: Path
) -> None:
    a.close()

    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(script), str(bench.path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "at work\n"
            wait_until(lambda: bench.rows("SELECT 1 FROM v_waits WHERE key = 'go'"))
        finally:
            owner.kill()
    killed = time.monotonic()

    @b.task()
    async def stuck(input: Any, ctx: Context) -> str:
        return "freed"

    [run] = b.runs.list(task="stuck")
    assert b.runs.get_run_ref(run.id).result() == "freed"
    assert time.monotonic() - killed < 2.5  # two seconds, and the machine's own lag
    b.event.push("go", "x")
    [run] = b.runs.list(task="wait")
    ref = b.runs.get_run_ref(run.id)
    reach(b, ref, lambda run: run.is_ended)
    assert ref.result() == ["b", "x"]
