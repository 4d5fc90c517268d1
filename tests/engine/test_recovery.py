"""Recovery: an engine that is closed or killed in the middle loses nothing; the next one goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import EngineStoppedError
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until


def close(bench: Bench) -> None:
    bench.close()


def crash(bench: Bench) -> None:
    bench.crash()


INTERRUPTIONS = [close, crash]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_a_queued_run_is_run_by_the_next_engine(bench: Bench, interrupt: Callable[[Bench], None]) -> None:
    gate, ran = threading.Event(), list[int]()

    def engine() -> Durable:
        durable = bench.durable(slots=Slots(loop=1))

        @durable.task()
        async def hold(input: int, ctx: Context) -> int:
            ran.append(input)
            await opened(gate)
            return input

        return durable

    first = engine()
    hold = first.tasks["hold"]
    refs = [hold.run(number, wait_for_result=False) for number in (1, 2, 3)]
    wait_until(lambda: ran == [1])
    interrupt(bench)
    gate.set()
    second = engine()
    assert [second.runs.get_run_ref(ref.workflow_run_id).result() for ref in refs] == [1, 2, 3]
    assert [ran.count(number) for number in (2, 3)] == [1, 1] if interrupt is close else ran.count(3) >= 1


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_run_at_work_is_entered_again_and_burns_no_retry(bench: Bench, interrupt: Callable[[Bench], None], kind: str) -> None:
    gate, entries = threading.Event(), list[int]()

    def engine() -> Durable:
        durable = bench.durable()

        @getattr(durable, kind)()  # type: ignore[untyped-decorator]
        async def work(input: Any, ctx: Context) -> list[int]:
            entries.append(ctx.invocation_count)
            await opened(gate)
            return [ctx.invocation_count, ctx.retry_count]

        return durable

    first = engine()
    ref = first.tasks["work"].run(wait_for_result=False)
    wait_until(lambda: entries)
    interrupt(bench)
    second = engine()
    second.open()
    wait_until(lambda: len(entries) == 2)
    gate.set()
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == [2, 0]
    assert entries == [1, 2]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_a_parent_in_the_middle_of_its_children(bench: Bench, interrupt: Callable[[Bench], None]) -> None:
    """Children that ended before are not run again, the one at work is, and nobody is spawned twice."""
    gate, ran = threading.Event(), list[int]()

    def engine() -> Durable:
        durable = bench.durable()

        @durable.task()
        async def child(input: int, ctx: Context) -> int:
            ran.append(input)
            if input == 2:
                await opened(gate)
            return input

        @durable.durable_task()
        async def parent(input: Any, ctx: DurableContext) -> list[int]:
            one = await child.aio_run(1)
            return [one, *await child.aio_run_many([child.create_bulk_run_item(input=number) for number in (2, 3)])]

        return durable

    first = engine()
    ref = first.tasks["parent"].run(wait_for_result=False)
    wait_until(lambda: sorted(ran) == [1, 2, 3])
    wait_until(lambda: len(first.runs.list(parent=ref.workflow_run_id, status="COMPLETED")) == 2)
    interrupt(bench)
    second = engine()
    second.open()
    wait_until(lambda: len(ran) == 4)
    gate.set()
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == [1, 2, 3]
    assert sorted(ran) == [1, 2, 2, 3]
    assert bench.rows("SELECT count(*) FROM v_runs WHERE parent_id = ?", ref.workflow_run_id) == [(3,)]


def test_a_child_that_ended_while_its_parent_was_away(bench: Bench) -> None:
    """One engine serves the child only: it ends, and the parent goes on when its task is defined again."""
    ran: list[str] = []

    def engine(*names: str) -> Durable:
        durable = bench.durable()

        async def child(input: Any, ctx: DurableContext) -> str:
            ran.append("child")
            return str(await ctx.aio_wait_for_event("go"))

        async def parent(input: Any, ctx: DurableContext) -> str:
            return str(await durable.tasks["child"].aio_run())

        for function in (child, parent):
            if function.__name__ in names:
                durable.durable_task()(function)
        return durable

    first = engine("child", "parent")
    ref = first.tasks["parent"].run(wait_for_result=False)
    wait_until(lambda: bench.rows("SELECT 1 FROM v_waits WHERE task = 'child'"))
    first.close()
    second = engine("child")
    second.event.push("go", "went")
    wait_until(lambda: second.runs.list(parent=ref.workflow_run_id, status="COMPLETED"))
    assert view(second, ref).status == "RUNNING"
    second.close()
    assert engine("child", "parent").runs.get_run_ref(ref.workflow_run_id).result() == "went"
    assert len(ran) == 2  # entered at its start, and after the close


def test_a_waiter_is_told_that_the_engine_was_closed(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    told: list[BaseException] = []

    def wait_for_it() -> None:
        try:
            ref.result()
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    settle(durable)
    durable.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in told] == [EngineStoppedError]


def test_a_closed_durable_opens_again(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.close()
    durable.close()
    assert not durable.is_open
    durable.event.push("go", 1)
    assert ref.result() == 1
    with bench.durable() as other:
        assert other.is_open
        assert other.runs.get(ref.workflow_run_id).output == "1"
    assert not other.is_open


# ---------------------------------------------------------------- other processes

SCRIPT = """
import os, sys
from durable_nb import Durable

durable = Durable(sys.argv[1])
effects = open(sys.argv[2], "a")

def effect(text):
    effects.write(text + "\\n")
    effects.flush()

@durable.task()
async def child(input, ctx):
    effect(f"child {input}")
    if input == int(sys.argv[3]):
        os._exit(9)
    return input

@durable.durable_task()
async def parent(input, ctx):
    await ctx.aio_memo(lambda: effect("memo"))
    total = 0
    for number in range(4):
        total += await child.aio_run(number)
    return total

if sys.argv[4] == "start":
    ref = parent.run(wait_for_result=False)
else:
    ref = durable.runs.get_run_ref("#1")
print(ref.result())
durable.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [0, 1, 3])
def test_a_killed_process_is_continued_by_another(bench: Bench, tmp_path: Path, killed_at: int) -> None:
    script, effects = tmp_path / "script.py", tmp_path / "effects.txt"
    script.write_text(textwrap.dedent(SCRIPT))

    def process(kill: int, how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(bench.path), str(effects), str(kill), how]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    assert process(killed_at, "start").returncode == 9
    done = process(-1, "resume")
    assert (done.returncode, done.stdout.strip()) == (0, "6"), done.stderr
    lines = effects.read_text().split("\n")[:-1]
    expected = ["memo"] + [f"child {number}" for number in range(4)]
    assert [lines.count(line) for line in expected] == [1] + [2 if number == killed_at else 1 for number in range(4)]


def test_a_run_is_reached_by_its_state_after_a_crash(bench: Bench) -> None:
    """What a crash leaves RUNNING is RUNNING for the next engine too, and owned by it when it serves the task."""

    def engine() -> Durable:
        durable = bench.durable()

        @durable.durable_task()
        async def wait(input: Any, ctx: DurableContext) -> int:
            await ctx.aio_wait_for_event("go")
            return ctx.invocation_count

        return durable

    first = engine()
    ref = first.tasks["wait"].run(wait_for_result=False)
    bench.asked(ref, 1)
    owner = view(first, ref).owner
    bench.crash()
    second = engine()
    run = reach(second, ref, lambda run: run.owner != owner, "another owner, or none")
    assert run.status == "RUNNING"
    second.event.push("go")
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == 2
