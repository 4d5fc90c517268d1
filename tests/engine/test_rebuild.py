"""What is kept as current state follows from facts that are only appended; a state that does not is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, SleepCondition, UserEventCondition, or_
from durable_nb.errors import LogError
from durable_nb.log.rebuild import State, differences, rebuild
from tests.engine.helpers import Bench, reach, wait_until


@pytest.fixture
def story(bench: Bench) -> sqlite3.Connection:
    """A log with a run that waits for half of what it asked, one that was evicted, one that ended, one that is queued."""
    durable = bench.durable()

    @durable.task()
    async def done(input: int, ctx: Context) -> int:
        return input

    @durable.durable_task()
    async def both(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for("both", UserEventCondition("a"), or_(UserEventCondition("b"), SleepCondition(timedelta(9))))

    @durable.durable_task()
    async def one(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("c", scope="s")

    done.run(1)
    refs = [both.run(wait_for_result=False), one.run(wait_for_result=False)]
    for ref in refs:
        bench.asked(ref, 1)
    durable.event.push("a", {"first": True})
    bench.clock.advance(timedelta(minutes=20))
    for ref in refs:
        reach(durable, ref, lambda run: run.is_evicted)
    bench.crash()
    return sqlite3.connect(bench.path, isolation_level=None)


def test_a_half_satisfied_wait_is_rebuilt_with_its_payload(bench: Bench, story: sqlite3.Connection) -> None:
    with closing(story):
        waits = [row for _, _, rows in rebuild(story) for row in rows]
        assert [(row[5], row[-2] is None, row[-1]) for row in waits] == [
            ("a", False, '{"first":true}'),
            ("b", True, None),
            ("sleep:9d", True, None),
            ("c", True, None),
        ]
        assert differences(story) == []


@pytest.mark.parametrize("column", [field.name for field in fields(State) if field.name != "version"])
def test_a_state_that_follows_from_no_fact_is_found(bench: Bench, story: sqlite3.Connection, column: str) -> None:
    bench.is_tampered = True
    value = {"status": "'CANCELLED'", "owner": "'nobody'", "blocked_reason": "'made up'"}.get(column, "77")
    with closing(story):
        story.execute(f"UPDATE run SET {column} = {value} WHERE number = 2")
        assert [text.split(" is ")[0] for text in differences(story)] == [f"run 2: {column}"]


def test_a_version_to_which_no_run_was_moved_is_found(bench: Bench, story: sqlite3.Connection) -> None:
    """Of a run that was never moved the version is itself a fact, as it was written once."""
    bench.is_tampered = True
    with closing(story):
        story.execute(
            "INSERT INTO journal (run, at, kind, data) "
            "SELECT number, 0, 'moved', json_object('from', version, 'version', 'b') FROM run WHERE number = 2"
        )
        assert [text.split(" is ")[0] for text in differences(story)] == ["run 2: version"]
        story.execute("UPDATE run SET version = 'b' WHERE number = 2")
        assert differences(story) == []


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM wait WHERE key = 'c'", "is missing"),
        ("UPDATE wait SET due_at = due_at + 1", "follows from no fact"),
        ("UPDATE wait SET matched_at = NULL WHERE key = 'a'", "follows from no fact"),
        ("UPDATE checkpoint SET seq = 1, recorded_at = 1 WHERE run = 3", "follows from no fact"),
    ],
)
def test_a_wait_that_follows_from_no_fact_is_found(bench: Bench, story: sqlite3.Connection, sql: str, words: str) -> None:
    bench.is_tampered = True
    with closing(story):
        story.execute(sql)
        assert any(words in text for text in differences(story))


def test_a_transition_of_an_unknown_kind_is_an_error(bench: Bench, story: sqlite3.Connection) -> None:
    bench.is_tampered = True
    with closing(story):
        story.execute("INSERT INTO journal (run, at, kind, data) VALUES (1, 0, 'enchanted', '{}')")
        with pytest.raises(LogError, match=r"run number 1 holds 'enchanted', which this durable_nb does not know"):
            list(rebuild(story))


def interrupted(bench: Bench) -> None:
    bench.crash()


def closed(bench: Bench) -> None:
    bench.close()


@pytest.mark.parametrize("leave", [interrupted, closed])
def test_the_state_is_that_of_the_facts_at_every_moment(bench: Bench, leave: Callable[[Bench], None]) -> None:
    """It is compared all the while, in snapshots of a log that is being written to."""

    def engine() -> Durable:
        durable = bench.durable()

        @durable.task(retries=1)
        async def shaky(input: int, ctx: Context) -> int:
            if ctx.retry_count == 0:
                raise ValueError("once")
            return input

        @durable.durable_task(retries=1)
        async def main(input: int, ctx: DurableContext) -> int:
            await ctx.aio_sleep_for(timedelta(seconds=5))
            many = await shaky.aio_run_many([shaky.create_bulk_run_item(number) for number in range(input)])
            if ctx.retry_count == 0:
                raise ValueError("again")
            await ctx.aio_wait_for_event("end")
            return sum(many)

        return durable

    durable = engine()
    ref = durable.tasks["main"].run(5, wait_for_result=False)
    bench.asked(ref, 1)
    leave(bench)
    durable = engine().open()
    bench.clock.advance(5)

    def asks() -> bool:
        bench.check_state()
        return bench.open_waits(ref) == ["end"]

    wait_until(asks)
    durable.event.push("end")
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == 10
