"""Events against many waits: filters that compare one field, and filters that do anything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from durable_nb import Durable, DurableContext
from tests.benchmarks.checkpoints import opened, rows
from tests.benchmarks.measure import Measured, Setting, latencies, percentile

WAITS_OF_ONE = 1000  # in a run
PUSHES = 10
PUSHES_AT_LEAST = 3
PUSHING_SECONDS = 60.0  # then fewer do
PATIENCE_SECONDS = 900.0
OPEN = "SELECT count(*) FROM v_waits"


def one_of_many(setting: Setting) -> Measured:
    """One event against 100,000 waits of its key, each for another user; from the push to the waiting run's going on."""
    number, heard = setting.count(100_000, least=20), list[tuple[int, float]]()
    with opened(setting.folder) as durable:
        wait_for_all(durable, number, lambda user: f"input.user_id == {user}", heard)
        returned, woke = list[float](), list[float]()
        for index in range(PUSHES):
            if index >= PUSHES_AT_LEAST and sum(returned) > PUSHING_SECONDS:
                break
            user, began = (2 * index + 1) * number // (2 * PUSHES), time.perf_counter()
            report = durable.event.push("order:paid", {"user_id": user})
            returned.append(time.perf_counter() - began)
            assert len(report.matched_runs) == 1
            assert not report.near_misses
            _wait(lambda: len(heard) > index, "the waiting run")  # noqa: B023  called at once
            assert heard[-1][0] == user
            woke.append(heard[-1][1] - began)
    return Measured(len(woke), latencies(woke) | latencies(returned, "push_") | {"waits": float(number)})


def bystander(setting: Setting) -> Measured:
    """Another run's memos, alone and while events meet 10,000 filters that no index could answer."""
    number, memos = setting.count(10_000, least=20), setting.count(1000, least=20)
    heard: list[tuple[int, float]] = []
    with opened(setting.folder) as durable:
        wait_for_all(durable, number, lambda user: f"input.text.contains('<{user}>') || input.amount % {user + 2} == 1", heard)
        seconds: list[float] = []

        @durable.durable_task()
        async def busy(input: int, ctx: DurableContext) -> int:
            async def nothing() -> None: ...

            for _ in range(input):
                began = time.perf_counter()
                await ctx.aio_memo(nothing)
                seconds.append(time.perf_counter() - began)
            return len(seconds)

        busy.run(2)
        seconds.clear()
        assert busy.run(memos) == memos
        quiet, pushed, is_over = list(seconds), list[float](), threading.Event()
        seconds.clear()
        thread = threading.Thread(target=_push, args=(durable, pushed, is_over))
        thread.start()
        assert busy.run(memos) == memos
        is_over.set()
        thread.join()
    assert not heard
    assert pushed
    ratio = percentile(seconds, 99) / percentile(quiet, 99)
    events = {"push_ms": percentile(pushed, 50) * 1e3, "events": float(len(pushed))}
    return Measured(memos, {"ratio": ratio, **latencies(seconds), **latencies(quiet, "quiet_"), **events})


def wait_for_all(durable: Durable, number: int, filter_of: Callable[[int], str], heard: list[tuple[int, float]]) -> None:
    """Have runs wait for `order:paid` with `number` filters; whoever hears of it takes down who and when."""

    @durable.durable_task()
    async def customers(input: int, ctx: DurableContext) -> None:
        async def one(user: int) -> None:
            await ctx.aio_wait_for_event("order:paid", filter_of(user))
            heard.append((user, time.perf_counter()))

        await asyncio.gather(*[one(user) for user in range(input, min(number, input + WAITS_OF_ONE))])

    items = [customers.create_bulk_run_item(first) for first in range(0, number, WAITS_OF_ONE)]
    customers.run_many(items, wait_for_result=False)
    _wait(lambda: rows(durable.path.parent, OPEN) == [(number,)], "the waits")


def _push(durable: Durable, pushed: list[float], is_over: threading.Event) -> None:
    payload: dict[str, Any] = {"text": "nobody", "amount": 0}
    while not is_over.is_set():
        began = time.perf_counter()
        durable.event.push("order:paid", payload)
        pushed.append(time.perf_counter() - began)


def _wait(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.001)
