"""Events that start runs: each listening task once, whoever matches the event and whatever dies meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import (
    BulkPushEventWithMetadata,
    Context,
    DefaultFilter,
    Durable,
    DurableContext,
    TTLBasedIdempotencyConfig,
)
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import DeclarationError, InputValidationError
from durable_nb.log import waits
from durable_nb.log.records import NewEvent
from tests.engine.helpers import Bench, settle, wait_until


class User(BaseModel):
    name: str
    age: int = 3


def listen(durable: Durable, name: str = "greet", **options: Any) -> list[Any]:
    """Declare a task that listens; give the list to which it writes what started it."""
    seen: list[Any] = []

    @durable.task(name=name, **options)
    async def task(input: Any, ctx: Context) -> Any:
        seen.append((input, ctx.additional_metadata))
        return input

    return seen


def test_an_event_starts_a_run_of_each_task_that_listens(bench: Bench, durable: Durable) -> None:
    greet, count = listen(durable, on_events=["user:created"]), listen(durable, "count", on_events=["user:*", "*:created"])
    other = listen(durable, "other", on_events=["order:*"])
    report = durable.event.push("user:created", {"name": "Ada"}, additional_metadata={"by": "web"})
    for run in report.started_runs:
        durable.runs.get_result(run)
    assert {durable.runs.get(run).task for run in report.started_runs} == {"greet", "count"}
    assert greet == count == [({"name": "Ada"}, {"by": "web"})]
    assert other == []
    assert bench.rows("SELECT event FROM run") == [(report.event_id,)] * 2


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("a:*", ["a:", "a:b", "a:b:c"]), ("*", ["a:", "a:b", "a:b:c", "b", "A:b", "a.b"]), ("a.b", ["a.b"]), ("*:c", ["a:b:c"])],
)
def test_a_star_stands_for_any_characters(durable: Durable, pattern: str, fits: list[str]) -> None:
    seen = listen(durable, on_events=[pattern])
    for key in ["a:", "a:b", "a:b:c", "b", "A:b", "a.b"]:
        for run in durable.event.push(key, key).started_runs:
            durable.runs.get_result(run)
    assert [payload for payload, _ in seen] == fits


def test_metadata_flows_from_the_event_below_the_tasks_own(durable: Durable) -> None:
    seen = listen(durable, on_events=["go"], default_additional_metadata={"b": "task", "c": "task"})
    [run] = durable.event.push("go", additional_metadata={"a": "event", "b": "event"}).started_runs
    durable.runs.get_result(run)
    assert seen == [({}, {"a": "event", "b": "task", "c": "task"})]


def test_a_payload_that_does_not_fit_is_a_near_miss_that_is_kept(bench: Bench, durable: Durable) -> None:
    seen = listen(durable, on_events=["user"], input_validator=User)
    report = durable.event.push("user", {"nom": "Ada"})
    assert report.started_runs == []
    [miss] = report.near_misses
    assert miss.startswith("greet: the input of task 'greet' does not fit its type: name: Field required")
    [(event, task, reason)] = bench.rows("SELECT * FROM near_miss")
    assert (event, task) == (report.event_id, "greet")
    assert "Field required" in reason
    [run] = durable.event.push("user", {"name": "Ada"}).started_runs
    durable.runs.get_result(run)
    assert seen[0][0] == User(name="Ada")


def test_priority_of_the_event_is_that_of_its_runs(bench: Bench, durable: Durable) -> None:
    listen(durable, on_events=["go"], default_priority=2)
    durable.event.push("go", priority=3)
    durable.event.push("go")
    assert bench.rows("SELECT priority FROM run ORDER BY number") == [(3,), (2,)]
    with pytest.raises(InputValidationError, match="priority=7 is unknown"):
        durable.event.push("go", priority=7)


def test_waits_and_listeners_are_served_by_one_event(bench: Bench, durable: Durable) -> None:
    seen = listen(durable, on_events=["go"])

    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    report = durable.event.push("go", 7)
    assert report.matched_runs == [ref.workflow_run_id]
    assert ref.result() == 7
    wait_until(lambda: len(seen) == 1)


def test_a_push_inside_a_durable_task_starts_once_live_and_in_replay(bench: Bench, durable: Durable) -> None:
    listen(durable, on_events=["made"])

    @durable.durable_task()
    async def make(input: Any, ctx: DurableContext) -> str:
        await durable.event.aio_push("made", 1)
        await ctx.aio_wait_for_event("go")
        return "done"

    ref = make.run(wait_for_result=False)
    bench.asked(ref, 2)
    wait_until(lambda: bench.count("run") == 2)
    bench.clock.advance(3600)
    durable.event.push("go")
    assert ref.result() == "done"
    assert bench.count("run") == 2


# ---------------------------------------------------------------- filters


def test_a_filter_decides_by_payload_metadata_scope_and_its_own_payload(durable: Durable) -> None:
    seen = listen(
        durable,
        on_events=["paid"],
        default_filters=[
            DefaultFilter("input.amount > payload.least && additional_metadata.by == 'web'", "shop", {"least": 10}),
            DefaultFilter("input.amount > 1000"),
        ],
    )
    started = [
        durable.event.push("paid", {"amount": amount}, additional_metadata={"by": by}, scope=scope).started_runs
        for amount, by, scope in [
            (11, "web", "shop"),
            (9, "web", "shop"),
            (11, "app", "shop"),
            (11, "web", None),
            (1001, "app", None),
        ]
    ]
    assert [len(runs) for runs in started] == [1, 0, 0, 0, 1]
    for runs in started:
        for run in runs:
            durable.runs.get_result(run)
    assert [payload["amount"] for payload, _ in seen] == [11, 1001]


def test_the_payload_of_the_filter_is_kept_with_the_run(bench: Bench, durable: Durable) -> None:
    listen(durable, on_events=["go"], default_filters=[DefaultFilter("true", payload={"who": "Anna"})])
    durable.event.push("go")
    assert bench.rows("SELECT filter_payload FROM run") == [('{"who":"Anna"}',)]


def test_a_filter_that_fails_is_a_near_miss(bench: Bench, durable: Durable) -> None:
    listen(durable, on_events=["paid"], default_filters=[DefaultFilter("input.amount > 10")])
    report = durable.event.push("paid", {"total": 11})
    assert report.started_runs == []
    assert "there is no field 'amount'" in report.near_misses[0]
    assert bench.count("near_miss") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_events": [""]}, "on_events holds ''"),
        ({"on_events": [3]}, "on_events holds 3: give keys of events"),
        ({"default_filters": "input.a"}, "give a list of DefaultFilter"),
        ({"default_filters": [DefaultFilter("input.a >")]}, "option default_filters of task 'greet' cannot work"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(durable: Durable, options: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        listen(durable, **options)


# ---------------------------------------------------------------- who listens


def test_events_from_before_the_declaration_start_nothing(bench: Bench, durable: Durable) -> None:
    durable.event.push("go", 1)
    listen(durable, on_events=["go"])
    settle(durable)
    assert durable.runs.list(task="greet") == []
    assert len(durable.event.push("go", 2).started_runs) == 1


def test_a_task_that_is_declared_again_listens_to_what_it_says_now(durable: Durable) -> None:
    listen(durable, on_events=["a", "b"])
    durable.open()
    listen(durable, on_events=["b", "c"])
    assert [len(durable.event.push(key).started_runs) for key in "abc"] == [0, 1, 1]
    listen(durable)
    assert [len(durable.event.push(key).started_runs) for key in "abc"] == [0, 0, 0]


def test_a_task_that_is_declared_without_events_after_a_restart_listens_no_more(bench: Bench, durable: Durable) -> None:
    listen(durable, on_events=["a"])
    durable.open().close()
    again = bench.durable()
    listen(again)
    assert again.event.push("a").started_runs == []


def test_a_task_that_nobody_serves_is_queued_and_runs_when_somebody_does(bench: Bench, durable: Durable) -> None:
    limits: dict[str, Any] = {"concurrency": 1, "idempotency": TTLBasedIdempotencyConfig("input.name", None)}
    listen(durable, on_events=["user"], input_validator=User, default_priority=2, **limits)
    durable.open().close()
    other = bench.durable()
    report = other.event.push("user", {"name": "Ada"}, additional_metadata={"by": "cli"})
    assert len(report.started_runs) == 1
    view = other.runs.get(report.started_runs[0])
    assert (view.status, view.task, view.kind) == ("QUEUED", "greet", "task")
    assert "'name' is a required property" in other.event.push("user", {}).near_misses[0]
    assert "idempotency key 'Ada' exists" in other.event.push("user", {"name": "Ada"}).near_misses[0]
    other.close()
    again = bench.durable()
    seen = listen(again, on_events=["user"], input_validator=User)
    again.open()
    wait_until(lambda: len(seen) == 1)
    assert seen == [(User(name="Ada"), {"by": "cli"})]
    assert bench.rows("SELECT priority FROM run") == [(2,)]


def test_what_was_accepted_before_a_crash_starts_its_runs_after_it(bench: Bench, durable: Durable) -> None:
    """The pusher dies between its event's commit and the matching."""
    listen(durable, on_events=["go"])
    engine = durable.open().engine
    event = NewEvent(id="E1", key="go", payload="5")
    durable.call(lambda: engine.writer.submit(lambda connection: waits.accept(connection, event, at=bench.clock.now())), aio="")
    bench.crash()
    bench.clock.advance(2)
    again = bench.durable()
    seen = listen(again, on_events=["go"])
    again.open()
    wait_until(lambda: len(seen) == 1)
    assert [payload for payload, _ in seen] == [5]


def test_two_engines_start_one_run_for_each_event(bench: Bench) -> None:
    a, b = bench.durable(clock=SystemClock()), bench.durable(clock=SystemClock())
    seen = [listen(durable, on_events=["go:*"]) for durable in (a, b)]
    for durable in (a, b):
        durable.open()
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda number: (a, b)[number % 2].event.push(f"go:{number % 5}", number), range(60)))
    wait_until(lambda: sum(map(len, seen)) == 60)
    assert sorted(payload for one in seen for payload, _ in one) == list(range(60))
    assert bench.rows("SELECT count(*), count(DISTINCT event) FROM run") == [(60, 60)]
    assert len({report.event_id for report in reports}) == 60


# ---------------------------------------------------------------- bulk


def test_events_are_pushed_in_one_transaction_and_reported_in_order(bench: Bench, durable: Durable) -> None:
    listen(durable, on_events=["a"])
    events: list[Any] = [
        BulkPushEventWithMetadata(key="a", payload=1, priority=3),
        {"key": "b", "payload": 2},
        BulkPushEventWithMetadata(key="a", payload=3, scope="s", additional_metadata={"m": 1}),
    ]
    reports = durable.event.bulk_push(events)
    assert [(report.key, len(report.started_runs)) for report in reports] == [("a", 1), ("b", 0), ("a", 1)]
    rows = bench.rows("SELECT key, payload, scope, metadata, priority FROM event ORDER BY seq")
    assert rows == [("a", "1", None, "{}", 3), ("b", "2", None, "{}", None), ("a", "3", "s", '{"m":1}', None)]
    assert len(set(bench.rows("SELECT accepted_at FROM event"))) == 1
    assert durable.event.bulk_push([]) == []


@pytest.mark.parametrize("wrong", [{"key": 3}, {"payload": 1}, {"key": "a", "priority": 9}, 7, {"key": "a", "payload": b"x"}])
def test_one_event_that_cannot_be_stops_all(bench: Bench, durable: Durable, wrong: Any) -> None:
    with pytest.raises(InputValidationError):
        durable.event.bulk_push([{"key": "a"}, wrong])
    assert bench.count("event") == 0


def test_a_bulk_push_in_a_durable_task_is_one_checkpoint(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def make(input: Any, ctx: DurableContext) -> list[str]:
        reports = await durable.event.aio_bulk_push([{"key": f"made:{n}", "payload": n} for n in range(3)])
        await ctx.aio_wait_for_event("go")
        return [report.event_id for report in reports]

    ref = make.run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.close()
    durable.event.push("go")
    ids = ref.result()
    assert [ask for _, _, ask in bench.asks(ref)] == ["push 3 events", "event go"]
    assert [row[0] for row in bench.rows("SELECT id FROM event WHERE key LIKE 'made:%' ORDER BY seq")] == ids
