"""SIGKILL just before and just after every commit of a run, then go on in a new process and compare with the undisturbed run.

CI takes a sample; ``DURABLE_NB_CRASH=all python -m pytest tests/crash`` kills at every commit.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.program import CHILDREN

STRIDE = 1 if os.environ.get("DURABLE_NB_CRASH") == "all" else 5


@dataclass
class Program:
    """A log, a file of counts, and the program that is run on them."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "crash.db"

    @property
    def counts(self) -> Path:
        return self.folder / "counts.txt"

    def run(self, *point: str) -> subprocess.CompletedProcess[str]:
        """Run the program, to its end or its death."""
        environment = {**os.environ, "JUPYTER_DATA_DIR": str(self.folder / "data")}
        command = [sys.executable, "-W", "error", "-m", "tests.crash.program", str(self.log), str(self.counts), *point]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def executed(self) -> Counter[str]:
        """How often each memo and child was executed."""
        return Counter(self.counts.read_text().split("\n")[:-1] if self.counts.exists() else [])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the log as a person would."""
        connection = sqlite3.connect(self.log)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def committed(self) -> set[str]:
        """What must never be executed again: the children and memos whose completion is in the log."""
        if not self.log.exists() or not self.query("SELECT 1 FROM sqlite_schema WHERE name = 'run'"):
            return set()
        squares = self.query("SELECT input FROM v_runs WHERE task = 'square' AND status = 'COMPLETED'")
        memos = self.query("SELECT 1 FROM v_checkpoints WHERE kind = 'memo' AND seq IS NOT NULL")
        shaky = self.query("SELECT 1 FROM v_runs WHERE task = 'shaky' AND status = 'COMPLETED'")
        return {f"square {row[0]}" for row in squares} | {"memo" for _ in memos} | {"shaky 7 1" for _ in shaky}


@dataclass
class Expected:
    """What a run gives that nobody kills."""

    result: Any
    executed: Counter[str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    program = Program(tmp_path_factory.mktemp("undisturbed"))
    done = program.run()
    assert done.returncode == 0, done.stderr
    return Expected(json.loads(done.stdout), program.executed())


def check(program: Program, result: Any, expected: Expected, kills: int, before: Counter[str], committed: set[str]) -> None:
    """Compare a disturbed run with the undisturbed one.

    Args:
        before: the executions counted when it was last killed.
        committed: what was in the log then, so must not have been executed since.
    """
    assert result == expected.result
    executed = program.executed()
    assert set(executed) == set(expected.executed)
    assert all(times <= 1 + kills for times in executed.values()), executed
    assert {what: executed[what] for what in committed} == {what: before[what] for what in committed}
    assert program.query("SELECT count(*) FROM run") == [(1 + CHILDREN + 2 + 1,)], "no child was spawned twice, none is missing"
    assert program.query("SELECT count(*) FROM v_runs WHERE status <> 'COMPLETED'") == [(0,)]
    assert program.query("SELECT count(*) FROM wait") == [(0,)]
    assert program.query("SELECT count(*) FROM event WHERE key = 'done'") == [(1,)], "a push inside a durable task happens once"
    assert program.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kill_at_any_commit_loses_nothing_and_repeats_nothing(side: str, undisturbed: Expected, tmp_path: Path) -> None:
    number, deaths = 1, 0
    while True:
        (tmp_path / f"{side}-{number}").mkdir()
        program = Program(tmp_path / f"{side}-{number}")
        killed = program.run(f"{side}:{number}")
        if killed.returncode == 0:
            break  # the run has fewer commits than that
        assert killed.returncode == -9, killed.stderr
        deaths += 1
        before, committed = program.executed(), program.committed()
        finished = program.run()
        assert finished.returncode == 0, finished.stderr
        check(program, json.loads(finished.stdout), undisturbed, 1, before, committed)
        number += STRIDE
    assert deaths >= 20 // STRIDE, "the program has too few commits to prove anything"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_again_and_again_gets_through(undisturbed: Expected, tmp_path: Path) -> None:
    program, kills = Program(tmp_path), 0
    while (done := program.run(f"after:{8 + kills % 3}")).returncode != 0:
        assert done.returncode == -9, done.stderr
        kills += 1
        assert kills < 100, "it makes no progress"
    assert kills >= 2
    check(program, json.loads(done.stdout), undisturbed, kills, program.executed(), set())
