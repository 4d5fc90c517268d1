"""A soak: a mixed load for minutes or hours, killed now and then, its memory and files looked at all the while.

The load runs in a process of its own (`python -m tests.benchmarks.soak LOG UNTIL`) and is killed without warning; the next one
goes on with the same log. At the end one process finishes what is unfinished, and every run is checked.

Invariants: every journey ends with its right output and its right number of checkpoints, however often it was killed; memory,
bytes a journey, and the WAL do not grow with the number of journeys done.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from durable_nb import Context, Durable, DurableContext, SleepCondition, UserEventCondition, or_
from tests.benchmarks.apart import ROOT, environment

AT_ONCE = 20  # journeys
CHILDREN = 3
CHECKPOINTS = 3 + CHILDREN  # a memo, the children, a sleep, a wait
KILL_SECONDS = (10.0, 90.0)
SAMPLE_SECONDS = 1.0
DRAIN_SECONDS = 300.0
WAL_MB = 72.0  # journal_size_limit, and what one transaction may add
ROOTS = "SELECT key, status, output FROM v_runs WHERE key LIKE 'journey %'"
UNFINISHED = "SELECT key FROM run WHERE status IN ('QUEUED', 'RUNNING') AND task = 'journey' LIMIT 5"
DONE = "SELECT count(*) FROM run WHERE task = 'journey' AND status = 'COMPLETED'"
ODD = """
SELECT v_runs.key, count(*), max(seq) FROM v_runs JOIN v_checkpoints ON run_id = v_runs.id WHERE v_runs.task = 'journey'
GROUP BY run_id HAVING count(*) != :number OR count(seq) != :number OR count(DISTINCT seq) != :number"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The load at one moment.

    Attributes:
        at: seconds since the soak began. life: which process of the load, counted from 1. age: its seconds.
        done: journeys completed so far.
    """

    at: float
    life: int
    age: float
    done: int
    resident_mb: float
    log_mb: float
    wal_mb: float


# ---------------------------------------------------------------- the load


def declare(durable: Durable) -> Any:
    """Declare the tasks; give the journey, whose output is seven times its input."""

    @durable.task(retries=3)
    def double(input: int, ctx: Context) -> int:
        if input % 5 == 0 and ctx.retry_count == 0:
            raise ValueError("the first attempt at every fifth number fails")
        return 2 * input

    @durable.durable_task()
    async def journey(input: int, ctx: DurableContext) -> int:
        async def same(number: int) -> int:
            return number

        own: int = await ctx.aio_memo(same, int, input)
        doubled = await double.aio_run_many([double.create_bulk_run_item(own) for _ in range(CHILDREN)])
        await ctx.aio_sleep_for(timedelta(milliseconds=20))
        approved = UserEventCondition("approve", f"input.journey == {own}", scope=str(own))
        await ctx.aio_wait_for("answer", or_(approved, SleepCondition(timedelta(seconds=1))))
        return own + sum(map(int, doubled))

    return journey


async def load(durable: Durable, until: float) -> None:
    """Keep some journeys going until a time, each named by its number; the first are those that an earlier load left."""
    journey, numbers = declare(durable), itertools.count()

    async def one_after_another() -> None:
        for number in numbers:
            if time.time() >= until:
                return
            ref = await durable.aio_start_named(journey, number, key=f"journey {number}")
            result = asyncio.ensure_future(ref.aio_result())
            await asyncio.wait([result], timeout=0.05)
            await durable.event.aio_push("approve", {"journey": number}, scope=str(number))
            assert await result == 7 * number

    durable.open()
    with closing(sqlite3.connect(durable.path)) as connection:
        for _ in range(connection.execute(DONE).fetchone()[0] - AT_ONCE):
            next(numbers)  # so many are done for certain, since at most so many are under way
    await asyncio.gather(*[one_after_another() for _ in range(AT_ONCE)])
    while unfinished := _read(durable.path, UNFINISHED):
        await asyncio.sleep(0.1)
        assert time.time() < until + DRAIN_SECONDS, f"{unfinished} do not end"


def main() -> None:
    """Be the load."""
    path, until = Path(sys.argv[1]), float(sys.argv[2])
    with Durable(path) as durable:
        asyncio.run(load(durable, until))


# ---------------------------------------------------------------- the watch


def soak(folder: Path, *, seconds: float, seed: int, report: Path | None = None) -> int:
    """Run the load, kill it now and then, judge it; give the exit status."""
    samples = watch(folder, seconds=seconds, chance=random.Random(seed))
    wrong = check(folder / "log.db") + judge(samples)
    print(f"{samples[-1].done} journeys in {seconds:.0f} s and {samples[-1].life} lives, seed {seed}; {summary(samples)}")
    for sentence in wrong:
        print(f"✗ {sentence}")
    if report is not None:
        said = {"seed": seed, "wrong": wrong, "samples": [asdict(sample) for sample in samples]}
        report.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return int(bool(wrong))


def watch(folder: Path, *, seconds: float, chance: random.Random, kill: tuple[float, float] = KILL_SECONDS) -> list[Sample]:
    """Run lives of the load one after another, each killed but the last, which finishes; look at it every second."""
    samples, began, path = list[Sample](), time.time(), folder / "log.db"
    until, status = began + seconds, -1
    for life in itertools.count(1):
        born = time.time()
        dies = born + chance.uniform(*kill)
        command = [sys.executable, "-m", "tests.benchmarks.soak", str(path), str(until)]
        with subprocess.Popen(command, cwd=ROOT, env=environment(folder), stdin=subprocess.DEVNULL) as process:
            while process.poll() is None and (time.time() < dies or dies >= until):
                time.sleep(SAMPLE_SECONDS)
                if path.exists() and process.poll() is None:
                    now = time.time()
                    samples.append(_sample(path, process.pid, at=now - began, life=life, age=now - born))
            process.kill()
            status = process.wait()
        if dies >= until or status > 0:
            break
    assert status == 0, f"the last load ended with status {status}"
    assert samples
    return samples


def check(path: Path) -> list[str]:
    """Give what is wrong with the journeys in the log."""
    ended = _read(path, ROOTS)
    wrong = [
        f"'{key}' is {status} with {output}"
        for key, status, output in ended
        if status != "COMPLETED" or output != str(7 * int(key.split()[1]))
    ]
    odd = _read(path, ODD, {"number": CHECKPOINTS})
    return wrong + [f"'{key}' has {count} checkpoints, the last numbered {last}" for key, count, last in odd]


def judge(samples: Sequence[Sample]) -> list[str]:
    """Give what grows that should not; nothing is said of a soak too short to tell."""
    wrong = [f"the WAL had {sample.wal_mb:.0f} MB" for sample in samples if sample.wal_mb > WAL_MB][:1]
    halves = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    if len(samples) < 120:
        return wrong
    memory = [median(sample.resident_mb for sample in half if sample.age > 5) for half in halves]
    if memory[1] > 1.2 * memory[0]:
        wrong.append(f"memory grew from {memory[0]:.0f} to {memory[1]:.0f} MB")
    growth = [_bytes_each(half) for half in halves]
    if growth[1] > 1.2 * growth[0]:
        wrong.append(f"a journey took {growth[0]:.0f} bytes of log, later {growth[1]:.0f}")
    return wrong


def summary(samples: Sequence[Sample]) -> str:
    """Say how large things were."""
    memory = [sample.resident_mb for sample in samples]
    return (
        f"memory {median(memory):.0f} MB (at most {max(memory):.0f}), log {samples[-1].log_mb:.1f} MB, "
        f"{_bytes_each(samples):.0f} bytes a journey, WAL at most {max(sample.wal_mb for sample in samples):.1f} MB"
    )


def _bytes_each(samples: Sequence[Sample]) -> float:
    done = samples[-1].done - samples[0].done
    return (samples[-1].log_mb - samples[0].log_mb) * 1e6 / done if done else 0.0


def _sample(path: Path, process: int, *, at: float, life: int, age: float) -> Sample:
    wal = path.with_name(path.name + "-wal")
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError):
        pages = 0
    try:
        (done,) = _read(path, DONE)[0]
    except sqlite3.OperationalError:  # it is just being made
        done = 0
    return Sample(
        at=at,
        life=life,
        age=age,
        done=done,
        resident_mb=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        log_mb=path.stat().st_size / 1e6,
        wal_mb=wal.stat().st_size / 1e6 if wal.exists() else 0.0,
    )


def _read(path: Path, sql: str, values: dict[str, int] | None = None) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(sql, values or {}).fetchall()


if __name__ == "__main__":
    main()
