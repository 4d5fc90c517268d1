"""A clock that is set forward and back: a deadline is a time of that clock, never early by it, and noticed in a second or so."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunRef
from tests.crash.helpers import check_log

HOUR = 3600.0


class SetClock:
    """The machine's clock as somebody sets it: the engine is told of nothing."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return time.time() + self.offset

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Tell nobody."""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def durable(tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    durable = Durable(tmp_path / "log.db", clock=clock)

    @durable.durable_task()
    async def hour(input: Any, ctx: DurableContext) -> float:
        return (await ctx.aio_sleep_for(timedelta(hours=1))).elapsed.total_seconds()

    @durable.task(retries=1, backoff_factor=HOUR)
    async def late(input: Any, ctx: Context) -> int:
        if not ctx.retry_count:
            raise ValueError("an hour later it works")
        return 1

    @durable.durable_task()
    async def busy(input: Any, ctx: DurableContext) -> list[Any]:
        return [await ctx.aio_memo(int, int, input), await ctx.aio_wait_for_event("go")]

    with durable:
        yield durable
    check_log(durable.path)


def begin(durable: Durable, task: str) -> RunRef[Any]:
    """Start a run and see it wait."""
    ref: RunRef[Any] = durable.tasks[task].run(1, wait_for_result=False)
    sql = "SELECT 1 FROM run WHERE id = ? AND ((SELECT count(*) FROM wait WHERE run = number) OR retry_count)"
    deadline = time.monotonic() + 10
    while True:
        with closing(sqlite3.connect(durable.path)) as connection:
            if connection.execute(sql, (ref.workflow_run_id,)).fetchone():
                return ref
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status(durable: Durable, ref: RunRef[Any]) -> str:
    return durable.runs.get(ref.workflow_run_id).status


def ends(durable: Durable, ref: RunRef[Any], seconds: float) -> Any:
    """Give the result, which must be there within so many real seconds."""
    deadline = time.monotonic() + seconds
    while status(durable, ref) != "COMPLETED":
        assert time.monotonic() < deadline, "it was not noticed"
        time.sleep(0.01)
    return ref.result()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["hour", "late"])
def test_a_clock_set_forward_is_noticed_by_sleeps_and_retries(durable: Durable, clock: SetClock, task: str) -> None:
    ref = begin(durable, task)
    clock.offset += HOUR
    assert ends(durable, ref, 3.0) >= (HOUR if task == "hour" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["hour", "late"])
def test_a_clock_set_back_makes_nothing_early_and_loses_no_deadline(durable: Durable, clock: SetClock, task: str) -> None:
    ref = begin(durable, task)
    clock.offset -= HOUR
    time.sleep(1.3)  # longer than the engine takes to look again
    clock.offset += 1.5 * HOUR
    time.sleep(1.3)
    assert status(durable, ref) in ("RUNNING", "QUEUED"), "half an hour is left"
    clock.offset += HOUR / 2
    ends(durable, ref, 3.0)


def test_work_goes_on_while_the_clock_jumps_about(durable: Durable, clock: SetClock) -> None:
    for number, jump in enumerate([-HOUR, 3 * HOUR, -24 * HOUR, 0.0, 48 * HOUR]):
        ref = begin(durable, "busy")
        clock.offset += jump
        durable.event.push("go", number)
        assert ends(durable, ref, 5.0) == [1, number]


SLEEPER = """
import sys, time
from datetime import timedelta

offset, real = float(sys.argv[2]), time.time
time.time = lambda: real() + offset  # before anything reads it

from durable_nb import Durable

durable = Durable(sys.argv[1])

@durable.durable_task()
async def hour(input, ctx):
    return (await ctx.aio_sleep_for(timedelta(hours=1))).elapsed.total_seconds()

print("result", durable.start_named(hour, 1, key="hour").result(), flush=True)
"""


@pytest.mark.slow
def test_a_deadline_survives_kills_and_a_system_clock_that_is_set(tmp_path: Path) -> None:
    log, environment = (
        tmp_path / "log.db",
        {**os.environ, "PYTHONPATH": str(Path.cwd()), "JUPYTER_DATA_DIR": str(tmp_path / "data")},
    )

    def start(offset: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", SLEEPER, str(log), str(offset)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def owner() -> str | None:
        if not log.exists():
            return None
        with closing(sqlite3.connect(log)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'wait'").fetchone():
                return None
            row = connection.execute("SELECT owner FROM run JOIN wait ON wait.run = number").fetchone()
            return row[0] if row else None

    def due() -> float:
        with closing(sqlite3.connect(log)) as connection:
            return float(connection.execute("SELECT due_at FROM wait").fetchone()[0])

    deadlines, owners = [], set[str | None]({None})
    for offset in (0.0, -HOUR, HOUR / 2):
        with start(offset) as process:
            try:
                patience = time.monotonic() + 20
                while owner() in owners:
                    assert time.monotonic() < patience, "it does not go on"
                    assert process.poll() is None
                    time.sleep(0.01)
                owners.add(owner())
                time.sleep(1.2)  # the timer has looked at least once more
                deadlines.append(due())
            finally:
                process.kill()
    assert len(set(deadlines)) == 1, "the deadline is that of the first ask"
    with start(HOUR + 1) as process:
        assert process.stdout is not None
        assert float(process.stdout.readline().removeprefix("result ")) >= HOUR
    check_log(log)
