"""SIGKILL just before and just after every commit of a run, then go on in a new process and compare with the undisturbed run.

CI takes a sample; ``DURABLE_NB_CRASH=all python -m pytest tests/crash`` kills at every commit.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.helpers import Expected, Program, check_log
from tests.crash.program import CHILDREN

STRIDE = 1 if os.environ.get("DURABLE_NB_CRASH") == "all" else 5


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
    check_log(program.log)


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
