"""Replay: a run's function entered again over all that it has recorded."""

from __future__ import annotations

import threading
import time
from typing import Any

from durable_nb import Durable, DurableContext
from tests.benchmarks.checkpoints import opened
from tests.benchmarks.measure import Measured, Meter, Setting

PATIENCE_SECONDS = 600.0


def whole(setting: Setting) -> Measured:
    """100,000 recorded checkpoints."""
    return _replayed(setting, setting.count(100_000, least=20))


def half(setting: Setting) -> Measured:
    """50,000 recorded checkpoints."""
    return _replayed(setting, setting.count(50_000, least=10))


def tenth(setting: Setting) -> Measured:
    """10,000 recorded checkpoints."""
    return _replayed(setting, setting.count(10_000, least=5))


def _replayed(setting: Setting, number: int) -> Measured:
    """Record `number` memos, close the engine, and have the next one replay them."""
    recorded = threading.Event()
    with opened(setting.folder, "relaxed") as durable:  # how it was written changes nothing in how it is read
        ref = _declare(durable, recorded).run(number, wait_for_result=False)
        assert recorded.wait(PATIENCE_SECONDS)
    replayed = threading.Event()
    durable = Durable(setting.folder / "log.db")
    _declare(durable, replayed)
    with Meter(setting.folder) as meter:
        durable.open()
        began = time.perf_counter()
        assert replayed.wait(PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
    with durable:
        durable.event.push("go")
        assert durable.runs.ref_to(durable.runs.get(ref.workflow_run_id)).result() == number
    return Measured(number, meter.figures(number) | {"rate": number / seconds, "open_s": meter.seconds - seconds})


def _declare(durable: Durable, reached: threading.Event) -> Any:
    @durable.durable_task()
    async def long(input: int, ctx: DurableContext) -> int:
        async def next_of(number: int) -> int:
            return number + 1

        count = 0
        for _ in range(input):
            count = await ctx.aio_memo(next_of, int, count)
        reached.set()
        await ctx.aio_wait_for_event("go")
        return count

    return long
