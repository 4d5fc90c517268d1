"""Hot queries use their indexes: SQLite's own plan says so, on a log with enough rows for it to have a choice."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.log import checkpoints, definitions, lines, reads, runs, versions, waits
from durable_nb.log.connection import open_sqlite, prepare

HOT = {
    "claim": (runs.CLAIM_READY, r"USING (COVERING )?INDEX run_ready"),
    "count ready": (runs.COUNT_READY, r"USING (COVERING )?INDEX run_ready"),
    "release": (runs.RELEASE_ALL, r"USING (COVERING )?INDEX run_owner"),
    "history": (checkpoints.HISTORY, r"SEARCH checkpoint USING PRIMARY KEY"),
    "arrived": (checkpoints.ARRIVED, r"USING INDEX checkpoint_seq"),
    "waiting on a child": (
        "SELECT run, branch, node FROM checkpoint WHERE child = ? AND seq IS NULL",
        r"USING INDEX checkpoint_child",
    ),
    "due": (waits.DUE, r"USING (COVERING )?INDEX wait_due"),
    "candidates": (waits.CANDIDATES, r"USING INDEX wait_key"),
    "next due": (
        "SELECT min(due_at) FROM wait WHERE due_at IS NOT NULL AND matched_at IS NULL",
        r"USING (COVERING )?INDEX wait_due",
    ),
    "next ready": ("SELECT min(ready_at) FROM run WHERE ready_at > ?", r"USING COVERING INDEX run_ready_at"),
    "pending events": (
        "SELECT 1 FROM event WHERE matched = 0 AND key = ? AND seq < ?",
        r"USING (COVERING )?INDEX event_pending",
    ),
    "children": (reads.CHILDREN, r"USING INDEX run_parent"),
    "open waits": (reads.WAITS, r"SEARCH wait USING PRIMARY KEY"),
    "awaited keys": (reads.AWAITED, r"USING INDEX wait_key"),
    "last key": (reads.LAST_KEY, r"USING COVERING INDEX sqlite_autoindex_run"),
    "outdated": (versions.LIST, r"USING INDEX run_status"),
    "count of outdated": (versions.COUNT, r"USING INDEX run_status"),
    "wanted definitions": (definitions.WANTED, r"USING INDEX run_status"),
    "lines": (lines.NEWEST, r"USING INDEX line_run"),
    "count of lines": (lines.COUNT, r"USING COVERING INDEX line_run"),
    "by key": (reads.FIND_KEY, r"USING INDEX sqlite_autoindex_run"),
    "by start of id": (reads.FIND_START, r"USING INDEX sqlite_autoindex_run"),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "log.db"
    prepare(path)
    with closing(open_sqlite(path)) as connection:
        yield connection


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_uses_its_index(log: sqlite3.Connection, name: str) -> None:
    sql, expected = HOT[name]
    named = set(re.findall(r"(?<!:):(\w+)", sql))
    values: dict[str, int] | list[int] = dict.fromkeys(named, 1) if named else [1] * sql.count("?")
    plan = "\n".join(row[3] for row in log.execute(f"EXPLAIN QUERY PLAN {sql}", values))
    assert re.search(expected, plan), plan
    assert not re.search(r"SCAN (run|checkpoint|wait|event|line)\b(?! USING)", plan), plan
