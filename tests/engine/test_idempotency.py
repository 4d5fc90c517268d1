"""Idempotency: one run for each key, for a time or while the first has not ended."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import (
    Context,
    Durable,
    DurableContext,
    IdempotencyCollisionError,
    StatusBasedIdempotencyConfig,
    TTLBasedIdempotencyConfig,
)
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import DeclarationError, InputValidationError, TaskRunError
from tests.engine.helpers import Bench, reach

BY_ID = TTLBasedIdempotencyConfig(key_expression="input.id", ttl=timedelta(minutes=5))
WHILE_OPEN = StatusBasedIdempotencyConfig(key_expression="input.id")


def declare(durable: Durable, **options: Any) -> Any:
    @durable.task(**options)
    async def charge(input: dict[str, Any], ctx: Context) -> Any:
        if input.get("fail"):
            raise ValueError("declined")
        return input["id"]

    @durable.durable_task(**options)
    async def order(input: dict[str, Any], ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event(f"paid:{input['id']}")

    return durable


def test_within_its_ttl_a_key_is_taken_whatever_became_of_its_run(bench: Bench, durable: Durable) -> None:
    charge = declare(durable, idempotency=BY_ID).tasks["charge"]
    first = charge.run({"id": "a"}, wait_for_result=False)
    assert first.result() == "a"
    with pytest.raises(IdempotencyCollisionError) as collided:
        charge.run({"id": "a", "more": 1})
    assert collided.value.existing_run_id == first.workflow_run_id
    assert str(collided.value) == (
        f"A run of 'charge' with the idempotency key 'a' exists: {first.workflow_run_id} (COMPLETED). Nothing was written."
    )
    assert charge.run({"id": "b"}) == "b"
    assert bench.count("run") == 2
    bench.clock.advance(300)
    assert charge.run({"id": "a"}) == "a"
    with pytest.raises(IdempotencyCollisionError):
        charge.run({"id": "a"})


def test_a_key_is_kept_while_its_run_has_not_ended(bench: Bench, durable: Durable) -> None:
    order = declare(durable, idempotency=WHILE_OPEN).tasks["order"]
    first = order.run({"id": 1}, wait_for_result=False)
    bench.asked(first, 1)
    bench.clock.advance(3600)
    reach(durable, first, lambda run: run.is_evicted)
    with pytest.raises(IdempotencyCollisionError, match="RUNNING"):
        order.run({"id": 1})
    durable.event.push("paid:1")
    first.result()
    second = order.run({"id": 1}, wait_for_result=False)
    bench.asked(second, 1)
    assert second.workflow_run_id != first.workflow_run_id


def test_a_key_may_be_kept_in_other_statuses_and_for_so_long_at_most(bench: Bench, durable: Durable) -> None:
    unless_failed = StatusBasedIdempotencyConfig("input.id", timedelta(hours=1), ("QUEUED", "RUNNING", "COMPLETED"))
    charge = declare(durable, idempotency=unless_failed).tasks["charge"]
    with pytest.raises(TaskRunError, match="declined"):
        charge.run({"id": "a", "fail": True})
    assert charge.run({"id": "a"}) == "a"
    with pytest.raises(IdempotencyCollisionError):
        charge.run({"id": "a"})
    bench.clock.advance(3600)
    assert charge.run({"id": "a"}) == "a"


def test_keys_are_known_after_a_crash(bench: Bench, durable: Durable) -> None:
    declare(durable, idempotency=BY_ID).tasks["charge"].run({"id": "a"})
    bench.crash()
    again = declare(bench.durable(), idempotency=BY_ID)
    with pytest.raises(IdempotencyCollisionError):
        again.tasks["charge"].run({"id": "a"})


def test_a_key_may_come_with_the_call(bench: Bench, durable: Durable) -> None:
    declare(durable)
    charge = durable.tasks["charge"]
    first = charge.run({"id": 1}, idempotency_key="k", wait_for_result=False)
    first.result()
    bench.clock.advance(timedelta(days=999))
    with pytest.raises(IdempotencyCollisionError) as collided:
        charge.run({"id": 2}, idempotency_key="k")
    assert collided.value.existing_run_id == first.workflow_run_id
    assert charge.run({"id": 3}) == 3
    assert durable.tasks["order"].run({"id": 4}, idempotency_key="k", wait_for_result=False)


@pytest.mark.parametrize("how", ["replay", "bulk_replay", "reset"])
def test_a_run_that_goes_on_again_takes_its_key_unless_another_has_it(bench: Bench, durable: Durable, how: str) -> None:
    order = declare(durable, idempotency=WHILE_OPEN).tasks["order"]

    def again(ref: Any) -> Any:
        if how == "reset":
            return durable.runs.reset_durable_task(ref, 1)
        return durable.runs.replay(ref) if how == "replay" else durable.runs.bulk_replay([ref.workflow_run_id])

    def ended(ref: Any) -> None:
        durable.event.push("paid:1")
        reach(durable, ref, lambda run: run.is_ended)

    first = order.run({"id": 1}, wait_for_result=False)
    bench.asked(first, 1)
    durable.runs.cancel(first)
    reach(durable, first, lambda run: run.is_ended)
    second = order.run({"id": 1}, wait_for_result=False)
    bench.asked(second, 1)
    if how == "bulk_replay":
        assert again(first) == []
    else:
        with pytest.raises(IdempotencyCollisionError) as collided:
            again(first)
        assert collided.value.existing_run_id == second.workflow_run_id
    assert durable.runs.get_status(first) == "CANCELLED"
    ended(second)
    again(first)
    reach(durable, first, lambda run: not run.is_ended)
    with pytest.raises(IdempotencyCollisionError) as collided:
        order.run({"id": 1})
    assert collided.value.existing_run_id == first.workflow_run_id


def test_a_bulk_call_writes_all_or_nothing(bench: Bench, durable: Durable) -> None:
    charge = declare(durable, idempotency=BY_ID).tasks["charge"]
    items = [charge.create_bulk_run_item({"id": key}) for key in ("a", "b", "a")]
    with pytest.raises(IdempotencyCollisionError):
        charge.run_many(items)
    assert bench.count("run") == bench.count("idempotency") == 0
    assert charge.run_many(items[:2]) == ["a", "b"]


def test_in_a_durable_task_a_collision_is_the_outcome_of_the_child_live_and_in_replay(bench: Bench, durable: Durable) -> None:
    declare(durable, idempotency=BY_ID)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> list[Any]:
        said = [await durable.tasks["charge"].aio_run({"id": "a"})]
        try:
            await durable.tasks["charge"].aio_run({"id": "a"})
        except IdempotencyCollisionError as error:
            said.append(error.existing_run_id)
        await ctx.aio_wait_for_event("go")
        return said

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 3)
    durable.close()
    durable.event.push("go")
    [child] = durable.runs.list(parent=ref.workflow_run_id)
    assert ref.result() == ["a", child.id]


def test_two_engines_start_one_of_many_at_once(bench: Bench) -> None:
    a, b = (declare(bench.durable(clock=SystemClock()), idempotency=BY_ID).open() for _ in range(2))

    def start(number: int) -> str:
        try:
            return str((a, b)[number % 2].tasks["charge"].run({"id": "x"}, wait_for_result=False).workflow_run_id)
        except IdempotencyCollisionError as error:
            return error.existing_run_id

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(start, range(40)))) == 1
    assert bench.count("run") == 1


def test_an_expression_that_fails_on_the_input_writes_nothing(bench: Bench, durable: Durable) -> None:
    charge = declare(durable, idempotency=BY_ID).tasks["charge"]
    with pytest.raises(InputValidationError, match="its idempotency key cannot be told"):
        charge.run({"name": 1})
    assert bench.count("run") == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda durable: declare(durable, idempotency="input.id"), "give a TTLBasedIdempotencyConfig or a StatusBased"),
        (lambda durable: declare(durable, idempotency=TTLBasedIdempotencyConfig("input.id ==", None)), "idempotency of task"),
        (lambda durable: TTLBasedIdempotencyConfig("", None), "takes key_expression as text"),
        (lambda durable: TTLBasedIdempotencyConfig("input.id", timedelta(-1)), "is negative"),
        (lambda durable: StatusBasedIdempotencyConfig("input.id", None, ("OPEN",)), "give some of QUEUED, RUNNING"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(durable: Durable, make: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        make(durable)


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(IdempotencyCollisionError("said", "ID")))
    assert (str(error), error.existing_run_id) == ("said", "ID")
