"""Retries: how often, after how long, and what stops them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from durable_nb import Context, Durable, NonRetryableException, TaskRunError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, settle, view


@pytest.mark.parametrize("lane", ["loop", "thread", "durable"])
def test_a_task_is_tried_again_until_it_succeeds(durable: Durable, lane: str) -> None:
    attempts: list[tuple[int, int, int, int]] = []

    def body(ctx: Context) -> str:
        attempts.append((ctx.retry_count, ctx.attempt_number, ctx.max_attempts, ctx.invocation_count))
        if ctx.retry_count < 2:
            raise ValueError(f"attempt {ctx.attempt_number}")
        return "done"

    async def on_loop(input: Any, ctx: Context) -> str:
        return body(ctx)

    def in_thread(input: Any, ctx: Context) -> str:
        return body(ctx)

    declare = durable.durable_task if lane == "durable" else durable.task
    task: Task[Any] = declare(name="flaky", retries=3)(in_thread if lane == "thread" else on_loop)
    ref = task.run(wait_for_result=False)
    assert ref.result() == "done"
    assert attempts == [(0, 1, 4, 1), (1, 2, 4, 2), (2, 3, 4, 3)]
    assert (view(durable, ref).retry_count, view(durable, ref).invocation_count) == (2, 3)


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_the_last_attempts_error_is_the_runs(durable: Durable, kind: str) -> None:
    attempts: list[int] = []

    @getattr(durable, kind)(retries=2)  # type: ignore[untyped-decorator]
    async def fails(input: Any, ctx: Context) -> None:
        attempts.append(ctx.attempt_number)
        raise ValueError(f"attempt {ctx.attempt_number}")

    with pytest.raises(TaskRunError, match="ValueError: attempt 3"):
        fails.run()
    assert attempts == [1, 2, 3]


class Hopeless(NonRetryableException):
    pass


@pytest.mark.parametrize("kind", ["task", "durable_task"])
@pytest.mark.parametrize("error", [NonRetryableException, Hopeless])
def test_a_non_retryable_exception_stops_at_once(durable: Durable, kind: str, error: type[Exception]) -> None:
    attempts: list[int] = []

    @getattr(durable, kind)(retries=5)  # type: ignore[untyped-decorator]
    async def fails(input: Any, ctx: Context) -> None:
        attempts.append(ctx.attempt_number)
        raise error("no use")

    with pytest.raises(TaskRunError, match="no use") as caught:
        fails.run()
    assert caught.value.exc_type == error.__name__
    assert attempts == [1]


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_backoff_grows_to_its_ceiling(bench: Bench, durable: Durable, kind: str) -> None:
    attempts: list[float] = []

    @getattr(durable, kind)(retries=4, backoff_factor=3, backoff_max_seconds=20)  # type: ignore[untyped-decorator]
    async def fails(input: Any, ctx: Context) -> None:
        attempts.append(bench.clock.now())
        raise ValueError

    ref = fails.run(wait_for_result=False)
    for number, backoff in enumerate([3, 9, 20, 20], start=1):
        reach(durable, ref, lambda run, number=number: run.retry_count == number and run.ready_at is not None)  # type: ignore[misc]
        bench.clock.advance(backoff - 0.5)
        settle(durable)
        assert len(attempts) == number
        bench.clock.advance(0.5)
    with pytest.raises(TaskRunError):
        ref.result()
    assert [round(later - earlier, 3) for earlier, later in pairwise(attempts)] == [3, 9, 20, 20]


def test_backoff_survives_a_restart(bench: Bench) -> None:
    attempts: list[int] = []

    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.task(retries=1, backoff_factor=3600)
        async def once(input: Any, ctx: Context) -> str:
            attempts.append(ctx.attempt_number)
            if ctx.retry_count == 0:
                raise ValueError
            return "done"

        return durable, once

    first, once = engine()
    ref = once.run(wait_for_result=False)
    reach(first, ref, lambda run: run.retry_count == 1 and run.ready_at is not None)
    first.close()
    bench.clock.advance(3599)
    second, _ = engine()
    settle(second)
    assert attempts == [1]
    bench.clock.advance(1)
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == "done"
    assert attempts == [1, 2]


def test_a_backoff_ends_by_the_machines_clock_too(bench: Bench) -> None:
    durable = bench.durable(clock=None)
    attempts = []

    @durable.task(retries=2, backoff_factor=0.05)
    async def flaky(input: Any, ctx: Context) -> int:
        attempts.append(ctx.attempt_number)
        if ctx.retry_count < 2:
            raise ValueError
        return ctx.retry_count

    assert flaky.run() == 2
    assert attempts == [1, 2, 3]
