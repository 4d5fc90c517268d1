"""SIGKILL just before and just after every commit of a workflow's run; CI takes a sample, as in test_kill_at_every_write."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.workflow_program import WIDTH

STRIDE = 1 if os.environ.get("DURABLE_NB_CRASH") == "all" else 6
RESULT = {
    "root": 3, **{f"part {number}": 3 * number for number in range(WIDTH)},
    "skipped": {"skipped": True}, "total": 18, "report": 19, "done": [19, True],
}  # fmt: skip


def run(folder: Path, *point: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JUPYTER_DATA_DIR": str(folder / "data")}
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.crash.workflow_program",
        str(folder / "log.db"),
        str(folder / "counts"),
        *point,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def executed(folder: Path) -> Counter[str]:
    counts = folder / "counts"
    return Counter(counts.read_text().split("\n")[:-1] if counts.exists() else [])


def completed(folder: Path) -> set[str]:
    """The tasks of the workflow whose completion is in the log, as they are counted."""
    with closing(sqlite3.connect(folder / "log.db")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'run'").fetchone():
            return set()
        rows = connection.execute(
            "SELECT substr(task, 4), retry_count FROM run WHERE parent = 1 AND status = 'COMPLETED'"
        ).fetchall()
    return {f"{name} {retries}" if name.startswith("part") else name for name, retries in rows} - {"total"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kill_at_any_commit_of_a_workflow_loses_nothing_and_repeats_nothing(side: str, tmp_path: Path) -> None:
    number, deaths = 1, 0
    while True:
        folder = tmp_path / f"{side}-{number}"
        folder.mkdir()
        killed = run(folder, f"{side}:{number}")
        if killed.returncode == 0:
            break
        assert killed.returncode == -9, killed.stderr
        deaths += 1
        before, committed = executed(folder), completed(folder)
        finished = run(folder)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout) == RESULT
        after = executed(folder)
        assert "skipped" not in after
        assert all(times <= 2 for times in after.values()), after
        assert {what: after[what] for what in committed} == {what: before[what] for what in committed}
        with closing(sqlite3.connect(folder / "log.db")) as connection:
            assert connection.execute("SELECT count(*), count(DISTINCT task) FROM run").fetchone() == (WIDTH + 5, WIDTH + 5)
            assert connection.execute("SELECT count(*) FROM run WHERE status <> 'COMPLETED'").fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM wait").fetchone() == (0,)
        number += STRIDE
    assert deaths >= 15 // STRIDE, "the program has too few commits to prove anything"
