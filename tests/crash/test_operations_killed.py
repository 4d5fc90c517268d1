"""SIGKILL just before and just after every commit of an agent that uses every further operation; CI takes a sample."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.helpers import Program, check_log
from tests.crash.operations_program import MAPPED, ORDERS

STRIDE = 1 if os.environ.get("DURABLE_NB_CRASH") == "all" else 7
RESULT = [
    [{"number": number} for number in range(ORDERS - 1)],
    "stepped",
    [number**2 for number in range(MAPPED)],
    ["soon", MAPPED**2],
    True,
    "cancelled",
    {"number": ORDERS - 1},
]
COUNTED = {f"limited {number}" for number in range(MAPPED + 1)} | {f"listen {number}" for number in range(ORDERS)} | {"step"}


def committed(program: Program) -> set[str]:
    """What must never be executed again: what is in the log as completed."""
    if not program.log.exists() or not program.query("SELECT 1 FROM sqlite_schema WHERE name = 'run'"):
        return set()
    runs = program.query("SELECT task, input FROM v_runs WHERE task IN ('limited', 'listen') AND status = 'COMPLETED'")
    steps = program.query("SELECT 1 FROM v_checkpoints WHERE kind = 'step' AND seq IS NOT NULL")
    numbers = [(task, json.loads(text)) for task, text in runs]
    return {f"{task} {given['number'] if task == 'listen' else given}" for task, given in numbers} | {"step" for _ in steps}


def check(program: Program, kills: int, before: Counter[str], done: set[str]) -> None:
    """Compare a disturbed run with what it must have done."""
    executed = program.executed()
    assert set(executed) - {"cleaned up"} == COUNTED  # a child that was cancelled before it was entered has nothing to clean up
    most = {what: (2 if what == "step" else 1) for what in executed}
    assert all(times <= most[what] * (1 + kills) for what, times in executed.items()), executed
    assert {what: executed[what] for what in done} == {what: before[what] for what in done}
    runs = {"agent": (1, "COMPLETED"), "sleeper": (1, "CANCELLED")}
    runs |= {"limited": (MAPPED + 1, "COMPLETED"), "listen": (ORDERS, "COMPLETED")}
    assert dict(program.query("SELECT task, count(*) FROM run GROUP BY task")) == {
        task: number for task, (number, _) in runs.items()
    }
    assert set(program.query("SELECT task, status FROM run")) == {(task, status) for task, (_, status) in runs.items()}
    assert program.query("SELECT count(*) FROM place WHERE state IS NOT NULL") == [(0,)], "a place is given back"
    assert program.query("SELECT count(*) FROM wait WHERE matched_at IS NULL") == [(0,)]
    check_log(program.log)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kill_at_any_commit_of_any_operation_loses_nothing_and_repeats_nothing(side: str, tmp_path: Path) -> None:
    number, deaths = 1, 0
    while True:
        (tmp_path / f"{side}-{number}").mkdir()
        program = Program(tmp_path / f"{side}-{number}", "tests.crash.operations_program")
        killed = program.run(f"{side}:{number}")
        if killed.returncode == 0:
            break  # the run has fewer commits than that
        assert killed.returncode == -9, killed.stderr
        deaths += 1
        before, done = program.executed(), committed(program)
        finished = program.run()
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout) == RESULT
        check(program, 1, before, done)
        number += STRIDE
    assert deaths >= 30 // STRIDE, "the program has too few commits to prove anything"
