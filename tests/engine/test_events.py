"""Waiting for events: what is accepted after the wait was registered reaches it, if scope, filter and schema fit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import Durable, DurableContext
from durable_nb.errors import ExpressionError, InputValidationError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, settle, view, wait_until


class Approval(BaseModel):
    by: str
    amount: int = 0


def waiter(durable: Durable, key: str = "go", expression: str | None = None, **options: Any) -> Task[Any]:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event(key, expression, **options)

    return wait


def waiting(bench: Bench, task: Task[Any]) -> Any:
    ref = task.run(wait_for_result=False)
    bench.asked(ref, 1)
    return ref


def still_waiting(bench: Bench, durable: Durable, ref: Any) -> bool:
    settle(durable)
    return view(durable, ref).status == "RUNNING" and len(bench.open_waits(ref)) == 1


@pytest.mark.parametrize("payload", [{"a": 1}, "text", 3, [1, 2], {}, False])
def test_the_payload_is_given_as_pushed(bench: Bench, durable: Durable, payload: object) -> None:
    ref = waiting(bench, waiter(durable))
    report = durable.event.push("go", payload)
    assert ref.result() == payload
    assert report.matched_runs == [ref.workflow_run_id]


def test_a_push_without_payload_is_an_empty_one(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable))
    durable.event.push("go")
    assert ref.result() == {}


def test_keys_are_exact(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable, "order:paid"))
    for key in ("order:paid:late", "order", "order:*", "ORDER:PAID", "*"):
        assert durable.event.push(key, "wrong").matched_runs == []
    assert still_waiting(bench, durable, ref)
    durable.event.push("order:paid", "right")
    assert ref.result() == "right"


def test_an_event_before_the_wait_does_not_count(bench: Bench, durable: Durable) -> None:
    durable.event.push("go", "early")
    ref = waiting(bench, waiter(durable))
    assert still_waiting(bench, durable, ref)
    durable.event.push("go", "in time")
    assert ref.result() == "in time"


def test_one_event_satisfies_every_wait(bench: Bench, durable: Durable) -> None:
    task = waiter(durable)
    refs = [waiting(bench, task) for _ in range(5)]
    report = durable.event.push("go", "all")
    assert [ref.result() for ref in refs] == ["all"] * 5
    assert sorted(report.matched_runs) == sorted(ref.workflow_run_id for ref in refs)


def test_a_wait_takes_the_first_of_two(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable))
    durable.event.push("go", "first")
    durable.event.push("go", "second")
    assert ref.result() == "first"


def test_two_waits_of_one_run_both_get_the_event(bench: Bench, durable: Durable) -> None:
    import asyncio

    @durable.durable_task()
    async def both(input: Any, ctx: DurableContext) -> list[Any]:
        return list(await asyncio.gather(ctx.aio_wait_for_event("go"), ctx.aio_wait_for_event("go")))

    ref = both.run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.event.push("go", 1)
    assert ref.result() == [1, 1]


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("expression", "misses", "hit"),
    [
        ("input.amount > 10", {"payload": {"amount": 10}}, {"payload": {"amount": 11}}),
        ("input.by == 'ada' && input.ok", {"payload": {"by": "ada", "ok": False}}, {"payload": {"by": "ada", "ok": True}}),
        ("additional_metadata.team == 'a'", {"additional_metadata": {"team": "b"}}, {"additional_metadata": {"team": "a"}}),
        ("scope == 's1'", {"scope": "s2"}, {"scope": "s1"}),
        ("event_key == 'go' && size(input.items) == 2", {"payload": {"items": [1]}}, {"payload": {"items": [1, 2]}}),
    ],
)
def test_a_filter_lets_through_what_fits(
    bench: Bench, durable: Durable, expression: str, misses: dict[str, Any], hit: dict[str, Any]
) -> None:
    ref = waiting(bench, waiter(durable, "go", expression))
    assert durable.event.push("go", **misses).matched_runs == []
    assert still_waiting(bench, durable, ref)
    durable.event.push("go", **hit)
    assert ref.result() == hit.get("payload", {})


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_filter_is_true(bench: Bench, durable: Durable, empty: str | None) -> None:
    ref = waiting(bench, waiter(durable, "go", empty))
    durable.event.push("go", 1)
    assert ref.result() == 1


def test_a_filter_that_does_not_compile_is_refused_when_asked(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def careless(input: Any, ctx: DurableContext) -> str:
        try:
            await ctx.aio_wait_for_event("go", "input.amount >")
        except ExpressionError as error:
            return str(error)
        return "asked"

    ref = careless.run(wait_for_result=False)
    assert "does not compile" in ref.result()
    assert bench.asks(ref) == []


def test_a_filter_that_fails_on_an_event_does_not_match_and_is_shown(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable, "go", "input.amount > 10"))
    report = durable.event.push("go", {"price": 11})
    assert report.matched_runs == []
    assert len(report.near_misses) == 1
    assert still_waiting(bench, durable, ref)
    [(error,)] = bench.rows("SELECT filter_error FROM v_waits WHERE run_id = ?", ref.workflow_run_id)
    assert "amount" in error
    durable.event.push("go", {"amount": 11})
    assert ref.result() == {"amount": 11}


# ---------------------------------------------------------------- scope


def test_a_scoped_wait_takes_its_scope_only(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable, scope="order-7"))
    for scope in (None, "", "order-77", "ORDER-7"):
        assert durable.event.push("go", "wrong", scope=scope).matched_runs == []
    assert still_waiting(bench, durable, ref)
    durable.event.push("go", "right", scope="order-7")
    assert ref.result() == "right"


@pytest.mark.parametrize("scope", [None, "any"])
def test_a_wait_without_scope_takes_every_scope(bench: Bench, durable: Durable, scope: str | None) -> None:
    ref = waiting(bench, waiter(durable))
    durable.event.push("go", 1, scope=scope)
    assert ref.result() == 1


# ---------------------------------------------------------------- validators and payloads


def test_a_validator_gives_its_type_live_and_replayed(bench: Bench) -> None:
    seen: list[object] = []

    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.durable_task()
        async def approve(input: Any, ctx: DurableContext) -> str:
            approval = await ctx.aio_wait_for_event("approve", payload_validator=Approval)
            seen.append(approval)
            await ctx.aio_wait_for_event("end")
            return str(approval.by)

        return durable, approve

    first, approve = engine()
    ref = waiting(bench, approve)
    first.event.push("approve", Approval(by="ada"))
    bench.asked(ref, 2)
    first.close()
    second, _ = engine()
    second.event.push("end")
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == "ada"
    assert seen == [Approval(by="ada", amount=0)] * 2


def test_a_payload_that_fails_the_schema_is_a_near_miss(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable, payload_validator=Approval))
    report = durable.event.push("go", {"amount": 3})
    assert report.matched_runs == []
    assert len(report.near_misses) == 1
    assert still_waiting(bench, durable, ref)
    durable.event.push("go", {"by": "ada", "amount": 3})
    assert ref.result() == {"by": "ada", "amount": 3}


def test_a_payload_that_json_cannot_hold_writes_nothing(bench: Bench, durable: Durable) -> None:
    ref = waiting(bench, waiter(durable))
    with pytest.raises(InputValidationError, match="go"):
        durable.event.push("go", object())
    with pytest.raises(InputValidationError, match="metadata"):
        durable.event.push("go", 1, additional_metadata={"at": object()})
    assert bench.count("event") == 0
    assert still_waiting(bench, durable, ref)


def test_an_accepted_event_survives_the_engine_that_took_it(bench: Bench) -> None:
    first = bench.durable()
    ref = waiting(bench, waiter(first))
    first.event.push("go", "accepted")
    bench.crash()
    second = bench.durable()
    waiter(second)
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == "accepted"


# ---------------------------------------------------------------- pushing from inside


def test_a_push_in_a_durable_task_happens_once(bench: Bench) -> None:
    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.durable_task()
        async def announce(input: Any, ctx: DurableContext) -> bool:
            report = await durable.event.aio_push("news", {"n": 1}, scope="s", additional_metadata={"m": 1})
            await ctx.aio_wait_for_event("end")
            return report.key == "news"

        return durable, announce

    durable, announce = engine()
    listener = waiting(bench, waiter(durable, "news", "additional_metadata.m == 1", scope="s"))
    ref = announce.run(wait_for_result=False)
    bench.asked(ref, 2)
    assert listener.result() == {"n": 1}
    for _ in range(2):
        durable.close()
        durable, _ = engine()
        reach(durable, ref, lambda run: run.status == "RUNNING")
        settle(durable)
    durable.event.push("end")
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() is True
    assert bench.rows("SELECT count(*) FROM event WHERE key = 'news'") == [(1,)]
    wait_until(lambda: view(durable, ref).status == "COMPLETED")
