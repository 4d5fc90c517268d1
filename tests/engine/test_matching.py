"""Matching: the index of filters changes nothing but the time; of many events in one pass each condition keeps its first."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.engine import matcher
from durable_nb.log import waits
from durable_nb.log.records import Completion
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, wait_until

MANY = 2 * matcher.BATCH + 50


def crowd(durable: Durable, filters: Sequence[str | None]) -> Task[Any]:
    """Declare a task that waits for `go` with each filter, and gives what came, in order of filter."""

    @durable.durable_task(name="crowd")
    async def wait(input: Any, ctx: DurableContext) -> list[Any]:
        return await asyncio.gather(*[ctx.aio_wait_for_event("go", expression) for expression in filters])

    return wait


def started(bench: Bench, durable: Durable, filters: Sequence[str | None]) -> Any:
    ref = crowd(durable, filters).run(wait_for_result=False)
    wait_until(lambda: bench.count("wait") == len(filters))
    return ref


def waits_left(bench: Bench) -> int:
    return bench.count("wait")


def test_of_many_filters_only_those_that_may_agree_are_evaluated(
    bench: Bench, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(bench, durable, [f"input.user_id == {number}" for number in range(MANY)] + ["input.user_id > 1000"])
    evaluated: list[str | None] = []
    verdict = matcher.verdict

    def watched(candidate: waits.Candidate, *rest: Any) -> tuple[bool, str | None]:
        evaluated.append(candidate.expression)
        return verdict(candidate, *rest)

    monkeypatch.setattr(matcher, "verdict", watched)
    durable.event.push("go", {"user_id": 7.0})
    assert sorted(map(str, evaluated)) == ["input.user_id == 7", "input.user_id > 1000"]
    assert waits_left(bench) == MANY


def test_an_event_without_the_field_fails_every_filter_that_needs_it_in_words(bench: Bench, durable: Durable) -> None:
    started(bench, durable, [f"input.user_id == {number}" for number in range(MANY)])
    report = durable.event.push("go", {"name": "nobody"})
    assert len(report.near_misses) == MANY
    assert all("user_id" in miss for miss in report.near_misses)


def test_filters_on_many_fields_are_all_found(bench: Bench, durable: Durable) -> None:
    fitting = [
        None,
        "input.a == 1",
        "1.0 == input.a && input.b == 'x'",
        "has(input.b) && input.b == 'x' && input.a > 0",
        "input.c == null && input.d == true",
        "scope == 's'",
        "input.a == 1 || false",
    ]
    unfit = ["input.a == 2", "input.a == '1'", "input.a == true", "input.b == 'X' && input.a == 1", "scope == 't'"]
    started(bench, durable, [*fitting, *unfit])
    durable.event.push("go", {"a": 1, "b": "x", "c": None, "d": True}, scope="s")
    assert waits_left(bench) == len(unfit)


def test_of_events_that_are_pushed_together_each_wait_takes_its_first(bench: Bench, durable: Durable) -> None:
    ref = started(bench, durable, [None, "input.n == 1", "input.n == 2"])
    reports = durable.event.bulk_push([{"key": "go", "payload": {"n": n}} for n in (0, 1, 2, 3)])
    assert ref.result() == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [len(report.matched_runs) for report in reports] == [1, 1, 1, 0], "a report tells what that event did"
    assert bench.rows("SELECT event FROM event_run ORDER BY event") == [(1,), (2,), (3,)]


def test_more_events_than_one_pass_takes_are_all_matched_in_order(bench: Bench, durable: Durable) -> None:
    number = matcher.EVENTS + 5

    @durable.durable_task()
    async def clerk(input: Any, ctx: DurableContext) -> list[int]:
        first = await ctx.aio_wait_for_event("go", f"input.n == {number - 1}")
        return [first["n"]]

    ref = clerk.run(wait_for_result=False)
    wait_until(lambda: bench.count("wait") == 1)
    durable.event.bulk_push([{"key": "go", "payload": {"n": n}} for n in range(number)])
    assert ref.result() == [number - 1]
    assert bench.rows("SELECT count(*) FROM event WHERE matched = 0") == [(0,)]


def test_an_event_that_nobody_waits_for_is_matched_as_it_is_accepted_and_still_found_later(
    bench: Bench, durable: Durable
) -> None:
    durable.event.push("go", {"n": 1}, scope="s")
    assert bench.rows("SELECT matched FROM event") == [(1,)]

    @durable.durable_task()
    async def late(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go", scope="s", lookback_window=timedelta(hours=1))

    assert late.run() == {"n": 1}


def test_an_empty_run_is_two_commits_and_asks_for_no_more(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def nothing(input: Any, ctx: DurableContext) -> int:
        return 1

    nothing.run()
    submitted: list[object] = []
    post = durable.engine.writer.post

    def watched(work: Callable[[sqlite3.Connection], Any], *rest: Any) -> None:
        submitted.append(work)
        post(work, *rest)

    durable.engine.writer.post = watched  # type: ignore[method-assign, assignment]
    for _ in range(5):
        nothing.run()
    assert len(submitted) == 10


def test_a_run_that_is_evicted_as_its_outcome_comes_goes_on(bench: Bench, durable: Durable) -> None:
    ref = started(bench, durable, [None])
    engine = durable.engine
    wait_until(lambda: [execution for execution in engine.executions.values() if execution.is_waiting()])

    def come(connection: sqlite3.Connection) -> list[Completion]:
        completion = waits.satisfy(connection, (1, 1, 1, 0), "5", at=bench.clock.now())
        return [completion] if completion is not None else []

    async def both() -> None:  # in one transaction
        [execution] = engine.executions.values()
        eviction = asyncio.create_task(engine.dispatcher.evict(execution))
        await asyncio.sleep(0)
        await engine.writer.submit(come, engine.route)
        assert await eviction

    durable.call(both, aio="")
    assert ref.result() == [5]
    assert bench.rows("SELECT kind FROM journal WHERE kind = 'evicted'") == [("evicted",)]
