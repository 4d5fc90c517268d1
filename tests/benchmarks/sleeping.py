"""A million sleeping runs: how fast they are made, what they cost at rest, how late they wake.

The engine makes some; the log is then filled up to the whole number with copies of their rows, since only the restart and
the waking need a million of them. Everything after the filling happens in a new process, as after a kernel's restart.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_nb import Context, Durable, DurableContext
from tests.benchmarks.apart import measure_in
from tests.benchmarks.checkpoints import opened, rows
from tests.benchmarks.measure import Measured, Meter, Setting, latencies, resident_mb

BULK = 1000  # runs a call
PATIENCE_SECONDS = 900.0
BEFORE_DUE_SECONDS = 3.0
ASLEEP = "SELECT count(*) FROM wait"
REST = "UPDATE run SET ready_at = NULL"  # closing gave back what was in memory; a million are at rest since long ago
COPIED = {  # what differs in a copy; :made is the number of originals, so that copy k of run n is run n + k × :made
    "run": {"number": "number + k * :made", "id": "substr(id, 1, 13) || printf('%013d', number + k * :made)"},
    "checkpoint": {"run": "run + k * :made"},
    "wait": {"run": "run + k * :made"},
    "journal": {"seq": "NULL", "run": "run + k * :made"},
}


def sleeping(setting: Setting) -> Measured:
    """Make them, fill the log, start again."""
    made, number = setting.count(20_000, least=20), setting.count(1_000_000, least=60)
    with opened(setting.folder) as durable, Meter(setting.folder) as meter:
        sleeper = declare(durable, [])
        for first in range(0, made, BULK):
            items = [sleeper.create_bulk_run_item(index) for index in range(first, min(made, first + BULK))]
            sleeper.run_many(items, wait_for_result=False)
        while rows(setting.folder, ASLEEP) != [(made,)]:
            time.sleep(0.02)
        making_mb = resident_mb()
    fill(setting.folder / "log.db", made, number)
    restarted = measure_in("tests.benchmarks.sleeping:restart", setting.scale, setting.folder)
    assert isinstance(restarted, Measured), restarted
    return Measured(number, meter.figures(made) | {"making_mb": making_mb} | dict(restarted.figures))


def declare(durable: Durable, woken: list[tuple[str, float]]) -> Any:
    """Declare a task that sleeps for a month and takes down when it woke."""

    @durable.durable_task()
    async def sleeper(input: int, ctx: DurableContext) -> int:
        await ctx.aio_sleep_for(timedelta(days=30))
        woken.append((ctx.workflow_run_id, time.time()))
        return input

    return sleeper


def fill(path: Path, made: int, number: int) -> None:
    """Copy the rows of the `made` runs until there are `number` runs."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(REST)
        for table, changed in COPIED.items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = [changed.get(column, column) for column in columns]
            connection.execute(
                f"WITH RECURSIVE copy(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM copy WHERE (k + 1) * :made < :number) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM copy CROSS JOIN {table} "
                f"WHERE {'run' if 'run' in changed else 'number'} + k * :made <= :number",
                {"made": made, "number": number},
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def restart(setting: Setting) -> Measured:
    """Open the log of the sleepers: the first work, the memory, and the waking of 10,000 within a second."""
    woken: list[tuple[str, float]] = []
    durable = Durable(setting.folder / "log.db")
    declare(durable, woken)

    @durable.task()
    async def nothing(input: int, ctx: Context) -> int:
        return input

    began = time.perf_counter()
    assert nothing.run(7) == 7
    restart_s = time.perf_counter() - began
    time.sleep(1.5)  # at rest: the timers have looked more than once
    resident = resident_mb()
    due = make_due(setting.folder / "log.db", setting.count(10_000, least=10))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(woken) < len(due):
        assert time.monotonic() < deadline, f"{len(woken)} of {len(due)} woke"
        time.sleep(0.02)
    lags = [at - due[run_id] for run_id, at in woken]
    assert len({run_id for run_id, _ in woken}) == len(due)
    assert min(lags) >= 0, "a run woke too early"
    durable.close()
    return Measured(len(due), {"restart_s": restart_s, "resident_mb": resident, **latencies(lags, "wake_")})


def make_due(path: Path, number: int) -> dict[str, float]:
    """Have the first `number` sleepers fall due evenly within one second, soon; give when each does, by run id."""
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        connection.execute("CREATE TEMP TABLE due AS SELECT run FROM wait ORDER BY run LIMIT ?", (number,))
        connection.execute("CREATE UNIQUE INDEX temp.due_run ON due (run)")
        first = time.time() + BEFORE_DUE_SECONDS
        places = connection.execute("SELECT run, row_number() OVER (ORDER BY run) - 1 FROM due").fetchall()
        connection.executemany("UPDATE wait SET due_at = ? WHERE run = ?", [(first + at / number, run) for run, at in places])
        connection.commit()
        return dict(connection.execute("SELECT id, wait.due_at FROM wait JOIN due USING (run) JOIN run ON run.number = wait.run"))
