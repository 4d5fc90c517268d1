"""Going on after kill -9 with 1,000 runs in flight: how long until every one of them has recorded something new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from durable_nb import Durable, DurableContext
from tests.benchmarks.apart import answer, start
from tests.benchmarks.checkpoints import rows
from tests.benchmarks.measure import Measured, Setting

STEP_SECONDS = 0.5
PATIENCE_SECONDS = 300.0


def resume(setting: Setting) -> Measured:
    """Kill the process that runs them in the midst of their work, start another."""
    number = setting.count(1000, least=5)
    victim = start("tests.benchmarks.resume:run", setting.scale, setting.folder)
    try:
        _wait((setting.folder / "in flight").exists, "the runs")
    finally:
        victim.kill()
        victim.communicate()
    (setting.folder / "started at").write_text(str(time.time()))
    heir = start("tests.benchmarks.resume:go_on", setting.scale, setting.folder)
    texts = heir.communicate()
    said = answer(heir.returncode, *texts)
    assert isinstance(said, Measured), said
    assert rows(setting.folder, "SELECT count(*), count(DISTINCT status) FROM v_runs") == [(number, 1)]
    gaps = "SELECT 1 FROM v_checkpoints GROUP BY run_id HAVING max(node) != count(*) OR max(seq) != count(*)"
    assert not rows(setting.folder, gaps), "a checkpoint is lost or doubled"
    return said


def run(setting: Setting) -> Measured:
    """Start them and go on until killed."""
    moved = set[int]()
    with Durable(setting.folder / "log.db") as durable:
        number = setting.count(1000, least=5)
        task = declare(durable, moved)
        task.run_many([task.create_bulk_run_item(index) for index in range(number)], wait_for_result=False)
        _wait(lambda: len(moved) == number, "the runs")
        (setting.folder / "in flight").touch()
        time.sleep(PATIENCE_SECONDS)
    return Measured(number, {})


def go_on(setting: Setting) -> Measured:
    """Take over, until each has moved."""
    moved, number = set[int](), setting.count(1000, least=5)
    with Durable(setting.folder / "log.db") as durable:
        declare(durable, moved)
        opening = time.perf_counter()
        durable.open()
        _wait(lambda: len(moved) == number, "the runs")
        figures = {"from_open_s": time.perf_counter() - opening}
        figures["resumed_s"] = time.time() - float((setting.folder / "started at").read_text())
    return Measured(number, figures)


def declare(durable: Durable, moved: set[int]) -> Any:
    """Declare a task that takes a step every half second for ever; `moved` has those that have recorded one here."""
    stepping = set[int]()

    @durable.durable_task()
    async def walk(input: int, ctx: DurableContext) -> None:
        async def step(number: int) -> int:
            if input in stepping:
                await asyncio.sleep(STEP_SECONDS)
            stepping.add(input)
            return number

        number = 0
        while True:
            number = 1 + await ctx.aio_memo(step, int, number)
            if input in stepping:
                moved.add(input)

    return walk


def _wait(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.005)
