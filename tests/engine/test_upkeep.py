"""`durable.upkeep`: a log is made smaller, examined and copied while runs go on, and stays sound."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunRef
from durable_nb.engine.sweeping import Removed
from durable_nb.errors import ArgumentError, LogError, UnknownRunError
from durable_nb.log import trees
from durable_nb.log.rebuild import differences
from tests.engine.helpers import Bench, closing_log, reach, settle, view

DAY = 86400.0


class Tasks:
    """A family: `parent` spawns `children`, each with large outputs; `waits` waits for an event."""

    def __init__(self, durable: Durable) -> None:
        @durable.task(retries=0)
        async def child(input: int, ctx: Context) -> str:
            ctx.log(f"child {input}")
            ctx.put_stream("chunk")
            if input < 0:
                raise ValueError("below")
            return f"{input} " * 40_000

        @durable.task()
        async def file(input: int, ctx: Context) -> bytes:
            return bytes([input]) * 100

        @durable.durable_task()
        async def parent(input: int, ctx: DurableContext) -> int:
            for number in range(input):
                await child.aio_run(number)
            await file.aio_run(input % 256)
            return input

        @durable.durable_task()
        async def waits(input: Any, ctx: DurableContext) -> Any:
            return await ctx.aio_wait_for_event("go")

        @durable.durable_task()
        async def awaits_other(input: str, ctx: DurableContext) -> int:
            output: int = await durable.runs.aio_get_result(input)
            await ctx.aio_wait_for_event("go")
            return output

        self.child, self.parent, self.waits, self.awaits_other, self.file = child, parent, waits, awaits_other, file


@pytest.fixture
def tasks(durable: Durable) -> Tasks:
    return Tasks(durable)


def is_there(durable: Durable, ref: RunRef[Any]) -> bool:
    try:
        view(durable, ref)
    except UnknownRunError:
        return False
    return True


def sound(bench: Bench) -> None:
    with closing_log(bench.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert differences(connection) == []


def run_to_end(task: Any, input: Any = None, **options: Any) -> RunRef[Any]:
    ref: RunRef[Any] = task.run(input, wait_for_result=False, **options)
    ref.result()
    return ref


# ---------------------------------------------------------------- gc


def test_whole_trees_go_with_all_that_belonged_to_them(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    old = run_to_end(tasks.parent, 3)
    bench.clock.advance(2 * DAY)
    young = run_to_end(tasks.parent, 2)
    would = durable.upkeep.gc("1d", dry_run=True)
    assert would == Removed(trees=1, runs=5, events=0, bodies=None, is_dry_run=True)
    assert is_there(durable, old)
    did = durable.upkeep.gc(timedelta(days=1))
    assert (did.trees, did.runs, did.events) == (1, 5, 0)
    assert did.bodies == 2, "the output of the third child, and one artifact; those of the others belong to the young run too"
    assert not is_there(durable, old)
    assert young.result() == 2
    assert bench.count("run") == 4
    assert bench.rows("SELECT count(*) FROM line, chunk") == [(4,)]
    assert [line.text for line in durable.runs.logs(durable.runs.list(parent=young)[-1].id)] == ["child 0"]
    sound(bench)
    assert durable.upkeep.gc("1d") == Removed(trees=0, runs=0, events=0, bodies=0, is_dry_run=False)


def test_only_the_statuses_that_are_asked_for_go(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    good, bad = run_to_end(tasks.child, 1), tasks.child.run(-1, wait_for_result=False)
    reach(durable, bad, lambda run: run.is_ended)
    bench.clock.advance(2 * DAY)
    assert durable.upkeep.gc("1d", status="FAILED").runs == 1
    assert (is_there(durable, good), is_there(durable, bad)) == (True, False)
    with pytest.raises(ArgumentError, match="status='RUNNING': gc removes runs that have ended"):
        durable.upkeep.gc("1d", status="RUNNING")


def test_what_a_living_run_refers_to_stays(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    original = run_to_end(tasks.parent, 1)
    awaited = run_to_end(tasks.parent, 1)
    waiting = tasks.awaits_other.run(awaited.workflow_run_id, wait_for_result=False)
    fork = durable.runs.fork(original, 2)
    assert fork.result() == 1
    bench.asked(waiting, 2)
    bench.clock.advance(2 * DAY)
    young_fork = durable.runs.fork(fork, 2)
    young_fork.result()
    assert durable.upkeep.gc("1d", dry_run=True).trees == 0
    assert durable.upkeep.gc("1d").trees == 0, "a fork of a fork, and a run that awaits the other's result, refer to them"
    bench.clock.advance(2 * DAY)
    durable.event.push("go", {})
    assert waiting.result() == 1
    bench.clock.advance(2 * DAY)
    would = durable.upkeep.gc("1d", dry_run=True)
    did = durable.upkeep.gc("1d")
    assert (would.trees, would.runs, would.events) == (did.trees, did.runs, did.events)
    assert (did.trees, did.events) == (5, 1)
    assert bench.count("run") == bench.count("journal") == bench.count("checkpoint") == bench.count("artifact") == 0
    sound(bench)


def test_named_runs_and_idempotency_keys_that_count_are_spared(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    named = durable.start_named(tasks.child, 1, key="the one")
    of_a_cell = durable.start_named(tasks.child, 1, key="cell:1")
    keyed = run_to_end(tasks.child, 1, idempotency_key="once")
    for ref in (named, of_a_cell):
        ref.result()
    bench.clock.advance(2 * DAY)
    assert durable.upkeep.gc("1d").runs == 1
    assert [is_there(durable, ref) for ref in (named, of_a_cell, keyed)] == [True, False, True]
    assert durable.upkeep.gc("1d", include_named=True).runs == 1
    assert [is_there(durable, ref) for ref in (named, keyed)] == [False, True]


def test_events_that_somebody_may_still_take_stay(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    durable.event.push("before", {})
    waiting = tasks.waits.run(wait_for_result=False)
    bench.asked(waiting, 1)
    durable.event.push("after", {})
    bench.clock.advance(2 * DAY)
    assert durable.upkeep.gc("1d").events == 1
    assert bench.rows("SELECT key FROM event") == [("after",)]
    durable.event.push("go", {"n": 1})
    assert waiting.result() == {"n": 1}
    assert durable.upkeep.gc("1d").events == 1
    assert bench.rows("SELECT key FROM event") == [("go",)]


def test_a_large_tree_goes_in_small_transactions_each_of_which_leaves_a_sound_log(
    bench: Bench, durable: Durable, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "BATCH", 3)
    refs = [run_to_end(tasks.parent, 5), run_to_end(tasks.parent, 0)]
    bench.clock.advance(2 * DAY)
    remove, sizes = trees.remove_some, list[int]()

    def watched(connection: sqlite3.Connection, *rest: Any) -> tuple[int, int]:
        removed, done = remove(connection, *rest)
        sizes.append(removed)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return removed, done

    monkeypatch.setattr(trees, "remove_some", watched)
    durable.upkeep.doctor()
    assert durable.upkeep.gc("1d").runs == 9
    assert sizes == [3, 3, 3]
    assert not any(is_there(durable, ref) for ref in refs)
    sound(bench)


def test_a_run_that_is_replayed_meanwhile_is_not_removed(
    bench: Bench, durable: Durable, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = tasks.child.run(-1, wait_for_result=False)
    reach(durable, ref, lambda run: run.is_ended)
    bench.clock.advance(2 * DAY)
    remove = trees.remove_some

    def replay_first(connection: sqlite3.Connection, *rest: Any) -> tuple[int, int]:
        from durable_nb.log import control

        if not replayed:
            replayed.append(True)
            control.replay(connection, view_number, at=bench.clock.now())
        return remove(connection, *rest)

    replayed: list[bool] = []
    view_number = view(durable, ref).number
    monkeypatch.setattr(trees, "remove_some", replay_first)
    durable.upkeep.gc("1d")
    assert is_there(durable, ref)


def test_gc_disturbs_neither_runs_nor_readers(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    for _ in range(5):
        run_to_end(tasks.parent, 2)
    bench.clock.advance(2 * DAY)
    is_over = threading.Event()

    def read() -> None:
        with closing_log(bench.path) as connection:
            while not is_over.is_set():
                assert differences(connection) == []

    reader = threading.Thread(target=read)
    reader.start()
    refs = [tasks.parent.run(3, wait_for_result=False) for _ in range(5)]
    assert durable.upkeep.gc("1d").trees == 5
    assert [ref.result() for ref in refs] == [3] * 5
    is_over.set()
    reader.join()
    sound(bench)


# ---------------------------------------------------------------- doctor


def test_a_healthy_log_gives_no_findings(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    run_to_end(tasks.parent, 2)
    waiting = tasks.waits.run(wait_for_result=False)
    bench.asked(waiting, 1)
    report = durable.upkeep.doctor()
    assert report.findings == ()
    assert report.is_healthy
    assert (report.facts["runs"], report.facts["unfinished"]) == (5, 1)
    assert report.facts["artifact_bytes"] == 100


def test_the_doctor_says_why_runs_are_stuck_and_what_helps(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    @durable.task(on_exhausted="park", name="parks")
    def parks(input: Any, ctx: Context) -> None:
        raise ValueError("no luck")

    @durable.task(executor="far", name="far")
    def far(input: Any, ctx: Context) -> None: ...

    parked, lonely = parks.run(wait_for_result=False), far.run(wait_for_result=False)
    reach(durable, parked, lambda run: run.blocked_reason)
    durable.queue.pause("child")
    tasks.child.run(1, wait_for_result=False)
    failing = tasks.waits.run(wait_for_result=False)
    bench.asked(failing, 1)
    bench.clock.advance(60)
    settle(durable)
    texts = {finding.kind + " " + finding.text: finding.run_id for finding in durable.upkeep.doctor().findings}
    blocked = next(text for text in texts if "is blocked" in text)
    assert blocked.startswith("stuck 'parks' is blocked: Its retries ran out: ValueError: no luck")
    assert f"durable.runs.retake('{parked.workflow_run_id}')" in blocked
    assert texts[blocked] == parked.workflow_run_id
    assert any("1 of the runs of 'far' are ready, the first for 60 s" in text for text in texts), texts
    assert any("'child' is paused, and 1 run is waiting" in text for text in texts), texts
    assert is_there(durable, lonely)


def test_the_doctor_finds_what_a_dead_worker_left_and_a_state_without_facts(bench: Bench, tasks: Tasks) -> None:
    from durable_nb.log.doctor import examine

    durable = bench.durable()
    waits = Tasks(durable).waits.run(wait_for_result=False)
    bench.asked(waits, 1)
    bench.crash()
    bench.is_tampered = True
    with closing_log(bench.path) as connection:
        connection.execute("UPDATE run SET retry_count = 7")
        report = examine(connection, bench.path, at=bench.clock.now(), is_alive=lambda worker: False)
    assert not report.is_healthy
    words = [finding.text for finding in report.findings]
    assert any("retry_count is 7, but the facts say 0" in text for text in words), words
    assert any("owned by a worker that is dead" in text for text in words), words


def test_the_doctor_says_that_a_file_is_damaged(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    from durable_nb.log.doctor import examine

    for number in range(30):
        run_to_end(tasks.child, number)
    copy = durable.upkeep.backup(bench.path.with_name("copy.db"))
    body = bytearray(copy.read_bytes())
    for place in range(20 * 4096, len(body), 7 * 4096):
        body[place : place + 512] = b"\xff" * 512
    copy.write_bytes(body)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        report = examine(connection, copy, at=bench.clock.now(), is_alive=lambda worker: True)
    assert report.findings[0].kind == "damage"
    assert "Restore a backup" in report.findings[0].text


# ---------------------------------------------------------------- backup


def test_a_backup_is_a_whole_log_taken_while_runs_go_on(bench: Bench, durable: Durable, tasks: Tasks) -> None:
    waiting = tasks.waits.run(wait_for_result=False)
    bench.asked(waiting, 1)
    refs = [tasks.parent.run(2, wait_for_result=False) for _ in range(10)]
    target = durable.upkeep.backup(bench.path.with_name("copy.db"))
    for ref in refs:
        ref.result()
    assert [path.name for path in bench.path.parent.glob("*copy*")] == ["copy.db"]
    assert target.stat().st_mode & 0o077 == 0
    with closing_log(target) as connection:
        assert differences(connection) == []
    other = Durable(target, clock=bench.clock)
    Tasks(other)
    with other:
        again = other.runs.get_run_ref(waiting.workflow_run_id)
        other.event.push("go", 5)
        assert again.result() == 5
    with pytest.raises(LogError, match="exists already, and nothing is written over"):
        durable.upkeep.backup(target)
    with pytest.raises(LogError, match="cannot be written"):
        durable.upkeep.backup(Path(bench.path, "no", "folder"))
