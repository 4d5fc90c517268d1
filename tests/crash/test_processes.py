"""Two and five processes on one log, some killed in the middle of work: taken over within 2 s, nothing lost, nothing done twice.

CI takes one seed; ``DURABLE_NB_CRASH=all`` takes more.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.crash.helpers import check_log
from tests.crash.worker import CHILDREN, expected

SEEDS = range(12) if os.environ.get("DURABLE_NB_CRASH") == "all" else range(1)
RUNS = 40
TAKEN_OVER_SECONDS = 2.0
LAG_SECONDS = 1.0  # of a busy machine


class Herd:
    """Processes on one log."""

    def __init__(self, folder: Path) -> None:
        self.log, self.counts = folder / "log.db", folder / "counts.txt"
        self.counts.touch()
        self._folder = folder
        self._stack = ExitStack()
        self.alive: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Herd:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.alive:
            process.kill()
        self._stack.close()

    def start(self, number: int) -> None:
        """Start processes, and tell them to begin when all of them serve."""
        for _ in range(number):
            self._start()
        for process in self.alive:
            assert process.stdin is not None
            process.stdin.write("begin\n")
            process.stdin.flush()

    def _start(self) -> None:
        environment = {**os.environ, "JUPYTER_DATA_DIR": str(self._folder / "data")}
        command = [sys.executable, "-W", "error", "-m", "tests.crash.worker", str(self.log), str(self.counts), str(RUNS)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = self._stack.enter_context(subprocess.Popen(command, env=environment, text=True, **pipes))  # type: ignore[call-overload]
        self.alive.append(process)
        assert process.stdout.readline() == "ready\n"

    def kill(self, victims: Sequence[subprocess.Popen[str]], gap: float) -> None:
        """Kill processes, one after the other, and see their runs taken over; what is in the log then is not executed again."""
        for process in victims:
            time.sleep(gap)
            process.kill()
            process.wait()
            self.alive.remove(process)
        killed, committed, before = time.monotonic(), self.committed(), self.executed()
        assert len(committed) < RUNS * (CHILDREN + 2), "the work was over before the kill"
        dead = [process.pid for process in victims]
        while any(self.rows("SELECT 1 FROM worker WHERE pid = ?", pid) for pid in dead):
            assert time.monotonic() - killed < TAKEN_OVER_SECONDS + LAG_SECONDS, "nobody took over from the dead process"
            time.sleep(0.01)
        assert not self.rows("SELECT 1 FROM run WHERE owner NOT IN (SELECT id FROM worker)")
        time.sleep(0.2)  # those who took over are at work by now
        after = self.executed()
        assert {name: after[name] for name in committed} == {name: before[name] for name in committed}

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.log)) as connection:
            return connection.execute(sql, values).fetchall()

    def executed(self) -> Counter[str]:
        return Counter(self.counts.read_text().splitlines())

    def committed(self) -> set[str]:
        """What must never be executed again."""
        squares = self.rows(
            "SELECT 'square ' || (input ->> 0) || ' ' || (input ->> 1) FROM v_runs WHERE task = 'square' AND status = 'COMPLETED'"
        )
        memos = self.rows("SELECT 'memo ' || outcome FROM v_checkpoints WHERE kind = 'memo' AND seq IS NOT NULL")
        return {name for (name,) in squares + memos}

    def wait_for_ends(self, number: int) -> None:
        """Wait until so many runs have ended."""
        deadline = time.monotonic() + 60
        while self.rows("SELECT count(*) FROM run WHERE task = 'work' AND status = 'COMPLETED'")[0][0] < number:
            assert time.monotonic() < deadline, "the runs make no progress"
            assert all(process.poll() is None for process in self.alive)
            time.sleep(0.005)


@pytest.fixture
def herd(tmp_path: Path) -> Iterator[Herd]:
    with Herd(tmp_path) as herd:
        yield herd


def check(herd: Herd, kills: int) -> None:
    """All has ended, as it should; each thing was executed, and at most once more per kill."""
    herd.wait_for_ends(RUNS)
    assert all(process.stdout is not None and process.stdout.readline() == "done\n" for process in herd.alive)
    outputs = dict(herd.rows("SELECT input, output FROM v_runs WHERE task = 'work'"))
    assert outputs == {str(number): str(expected(number)).replace(" ", "") for number in range(RUNS)}
    assert herd.rows("SELECT count(*) FROM run") == [(RUNS * (CHILDREN + 2),)], "no run was made twice"
    executed = herd.executed()
    assert set(executed) == herd.committed()
    assert max(executed.values()) <= 1 + kills
    check_log(herd.log)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_two_processes_is_killed_in_the_middle_of_work(herd: Herd, seed: int) -> None:
    chance = random.Random(seed)
    herd.start(2)
    herd.wait_for_ends(chance.randrange(1, RUNS // 4))
    herd.kill([chance.choice(herd.alive)], gap=0.0)
    check(herd, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_five_processes_share_a_log_and_three_of_them_die(herd: Herd, seed: int) -> None:
    chance = random.Random(seed)
    herd.start(5)
    herd.wait_for_ends(1)
    herd.kill(chance.sample(herd.alive, 3), gap=chance.random() * 0.05)
    check(herd, kills=3)
    assert herd.rows("SELECT count(*) FROM worker") == [(2,)], "the dead are buried, the living are not"
