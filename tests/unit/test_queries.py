"""Hot queries use their indexes: SQLite's own plan says so, on a log with enough rows for it to have a choice."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.engine import children
from durable_nb.log import (
    branches,
    checkpoints,
    definitions,
    doctor,
    endings,
    histories,
    idempotency,
    idle,
    limits,
    lines,
    listing,
    live,
    lookback,
    mailboxes,
    pasts,
    questions,
    queue,
    reads,
    runs,
    schedules,
    streams,
    trees,
    triggers,
    versions,
    waits,
    workflows,
)
from durable_nb.log.connection import open_sqlite, prepare

HOT = {
    "claim": (queue.FIND_READY, r"USING (COVERING )?INDEX run_ready"),
    "still queued": (runs.STILL_QUEUED, r"USING INDEX run_ready_at"),
    "count ready": (queue.COUNT_READY, r"USING (COVERING )?INDEX run_ready"),
    "ready ahead of the clock": (queue.AHEAD, r"SEARCH run USING (COVERING )?INDEX run_ready_at"),
    "let in already": (limits.HEAD, r"USING (COVERING )?INDEX run_lineup"),
    "first of a lineup": (limits.FIRST, r"USING COVERING INDEX run_lineup"),
    "lineups of a crowd": (limits.LINEUPS, r"SEARCH lineup USING (COVERING )?INDEX lineup_turn"),
    "places taken": (limits.TAKEN, r"USING (COVERING )?INDEX place_taken"),
    "units reserved": (limits.RESERVED, r"USING (COVERING )?INDEX place_taken"),
    "those who stand": (limits.STANDING, r"USING (COVERING )?INDEX place_taken"),
    "less urgent": (limits.WEAKER_HEAD, r"USING (COVERING )?INDEX place_taken"),
    "needs": (limits.NEEDS, r"SEARCH place USING PRIMARY KEY"),
    "uses of a rate": (limits.USED_FROM, r"SEARCH spend USING PRIMARY KEY"),
    "rates due": (limits.DUE, r"USING (COVERING )?INDEX crowd_due"),
    "next rate due": (limits.NEXT_DUE, r"USING (COVERING )?INDEX crowd_due"),
    "idempotency": (idempotency.FIND_TWIN, r"SEARCH idempotency USING PRIMARY KEY"),
    "listeners": (triggers.LISTENERS, r"USING INDEX listener_pattern"),
    "schedules due": (schedules.DUE, r"SEARCH schedule USING INDEX schedule_due"),
    "next schedule due": (schedules.NEXT_DUE, r"schedule USING COVERING INDEX schedule_due"),
    "forks of a run": (pasts.FORKS, r"USING (COVERING )?INDEX run_forked"),
    "moves of a run": (pasts.MOVES, r"USING INDEX journal_run"),
    "release": (runs.RELEASE_ALL, r"USING (COVERING )?INDEX run_owner"),
    "history": (checkpoints.HISTORY, r"SEARCH checkpoint USING PRIMARY KEY"),
    "unsatisfied": (branches.UNSATISFIED, r"SEARCH checkpoint USING PRIMARY KEY"),
    "arrived": (checkpoints.ARRIVED, r"USING INDEX checkpoint_seq"),
    "waiting on a child": (
        "SELECT run, branch, node FROM checkpoint WHERE child = ? AND seq IS NULL",
        r"USING INDEX checkpoint_child",
    ),
    "a task's place in its workflow": (workflows.ASKED_BY, r"USING (COVERING )?INDEX checkpoint_child"),
    "shape of a workflow's run": (workflows.PLAN, r"SEARCH checkpoint USING PRIMARY KEY"),
    "a workflow's ended tasks": (workflows.ENDED_SIBLINGS, r"SEARCH checkpoint USING PRIMARY KEY"),
    "diverged runs of a workflow": (workflows.UNPARK, r"USING INDEX run_blocked"),
    "due": (waits.DUE, r"USING (COVERING )?INDEX wait_due"),
    "work for a claim": (queue.IS_WORK, r"USING (COVERING )?INDEX run_ready"),
    "next place of an owner": (checkpoints.NEXT_SEQ_OF_OWNER, r"SEARCH run USING INTEGER PRIMARY KEY"),
    "candidates": (
        waits.CANDIDATES,
        r"USING INDEX wait_key \(key=\? AND filter_fields=\? AND \(filter_value,run,branch,node,item\)>",
    ),
    "compared fields": (waits.FIELDS, r"USING INDEX wait_key \(key=\? AND filter_fields>\?\)"),
    "awaited": (waits.IS_AWAITED, r"USING INDEX wait_key"),
    "event left over": (waits.LEFT, r"USING INDEX event_pending"),
    "patterns": (triggers.PATTERNS, r"USING (COVERING )?INDEX listener_pattern"),
    "next due": (
        "SELECT min(due_at) FROM wait WHERE due_at IS NOT NULL AND matched_at IS NULL",
        r"USING (COVERING )?INDEX wait_due",
    ),
    "next ready": ("SELECT min(ready_at) FROM run WHERE ready_at > ?", r"USING COVERING INDEX run_ready_at"),
    "due runs": (endings.DUE_RUNS, r"USING INDEX run_due"),
    "next due run": ("SELECT min(due_at) FROM run WHERE due_at IS NOT NULL", r"USING COVERING INDEX run_due"),
    "open children": (endings.OPEN_CHILDREN, r"USING INDEX run_parent"),
    "list by time": (reads.RunFilter(since=1.0, until=2.0).sql(limit=1)[0], r"USING INDEX run_created"),
    "list by task": (reads.RunFilter(task="a").sql(limit=1)[0], r"USING INDEX run_task"),
    "list by status": (reads.RunFilter(status=("FAILED",)).sql(limit=1)[0], r"USING INDEX run_status"),
    "list by parent": (reads.RunFilter(parent="a").sql(limit=1)[0], r"USING INDEX run_parent"),
    "list by event": (reads.RunFilter(event="a").sql(limit=1)[0], r"USING (COVERING )?INDEX event_key"),
    "next pending event": (waits.NEXT_PENDING, r"USING (COVERING )?INDEX event_pending"),
    "pending events before": (waits.PENDING_BEFORE, r"USING (COVERING )?INDEX event_pending"),
    "next of a mailbox": (mailboxes.NEXT, r"USING INDEX event_key \(key=\? AND seq>\?\)"),
    "next of a scoped mailbox": (mailboxes.NEXT_IN_SCOPE, r"USING INDEX event_scope \(key=\? AND scope=\? AND seq>\?\)"),
    "wait that looks back": (lookback.NEXT_WAIT, r"USING (COVERING )?INDEX wait_back"),
    "events that are looked back on": (lookback.EARLIER, r"USING INDEX event_scope \(key=\? AND scope=\? AND seq<\?\)"),
    "open questions": (questions.OPEN, r"USING (COVERING )?INDEX wait_inbox"),
    "questions": (questions.LIST, r"USING (COVERING )?INDEX question_asked"),
    "question": (questions.FIND, r"SEARCH question USING PRIMARY KEY \(run=\? AND branch=\? AND node=\?\)"),
    "open spots": (questions.SPOTS, r"USING (COVERING )?INDEX wait_inbox"),
    "count of open questions": (questions.COUNT, r"USING (COVERING )?INDEX wait_inbox"),
    "table by state": (listing.Query(status=("FAILED",)).page(0.0)[0], r"SEARCH run USING INDEX run_status"),
    "table by task": (listing.Query(task="a").page(0.0)[0], r"SEARCH run USING INDEX run_task"),
    "table by parent": (listing.Query(parent="a").page(0.0)[0], r"SEARCH run USING COVERING INDEX run_parent"),
    "table by text": (listing.Query(text="a").page(0.0)[0], r"SEARCH run USING INTEGER PRIMARY KEY \(rowid>\?\)"),
    "table ordered": (listing.Query(task="a", order="took").page(0.0)[0], r"SEARCH run USING INDEX run_task"),
    "rows of the table": (listing.ROWS, r"SEARCH run USING INTEGER PRIMARY KEY \(rowid=\?\)"),
    "tasks of the table": (listing.TASKS, r"SEARCH run USING COVERING INDEX run_task \(task>\?\)"),
    "child by key": (children.BY_KEY, r"INDEX run_child_key \(parent=\? AND child_key=\? AND rowid>\?\)"),
    "history of a run": (histories.BEGIN_HISTORY, r"SEARCH run"),
    "children": (reads.CHILDREN, r"USING INDEX run_parent"),
    "chunks": (streams.CHUNKS, r"SEARCH chunk USING INDEX chunk_run"),
    "open waits": (reads.WAITS, r"SEARCH wait USING PRIMARY KEY"),
    "awaited keys": (reads.AWAITED, r"USING INDEX wait_key"),
    "last key": (reads.LAST_KEY, r"USING COVERING INDEX sqlite_autoindex_run"),
    "outdated": (versions.LIST, r"USING INDEX run_status"),
    "last move": (versions.LAST_MOVE, r"SEARCH journal USING INDEX journal_run"),
    "count of outdated": (versions.COUNT, r"USING INDEX run_status"),
    "wanted definitions": (definitions.WANTED, r"USING INDEX run_status"),
    "lines after": (lines.AFTER, r"USING INDEX line_run"),
    "a wait that is due": (idle.DUE, r"SEARCH wait USING (COVERING )?INDEX wait_due"),
    "an event to be matched": (idle.UNMATCHED, r"USING (COVERING )?INDEX event_pending"),
    "unfinished runs of a worker": (idle.UNFINISHED, r"USING INDEX run_status"),
    "lines": (lines.NEWEST, r"USING INDEX line_run"),
    "count of lines": (lines.COUNT, r"USING COVERING INDEX line_run"),
    "what has changed": (live.JOURNAL, r"SEARCH journal USING INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)"),
    "a run's journey": (live.JOURNEY, r"USING INDEX journal_run \(run=\? AND \w+>\?\)"),
    "new children": (live.CHILDREN, r"USING INDEX run_parent \(parent=\? AND \w+>\?\)"),
    "runs by number": (live.RUNS, r"SEARCH run USING INTEGER PRIMARY KEY"),
    "counts of children": (live.COUNTS, r"SEARCH run USING COVERING INDEX run_parent"),
    "runs that wait": (live.WAITING, r"SEARCH wait USING PRIMARY KEY \(run=\?\)"),
    "a run's open waits": (live.WAITS, r"SEARCH wait USING PRIMARY KEY \(run=\?\)"),
    "new asks": (live.ASKED, r"SEARCH checkpoint USING PRIMARY KEY \(run=\? AND branch=\? AND node>\?\)"),
    "new answers": (live.ANSWERED, r"SEARCH checkpoint USING INDEX checkpoint_seq \(run=\? AND seq>\?\)"),
    "new lines": (live.LINES, r"SEARCH line USING INDEX line_run \(run=\? AND \w+>\?\)"),
    "by key": (reads.FIND_KEY, r"USING INDEX sqlite_autoindex_run"),
    "old runs": (trees.ROOTS, r"USING INDEX run_status"),
    "a tree": (trees.TREE, r"USING (COVERING )?INDEX run_parent"),
    "what refers to a tree": (trees.REFERRING, r"USING (COVERING )?INDEX (checkpoint_child|run_forked)"),
    "idempotency keys of a tree": (trees.KEYS_THAT_COUNT, r"USING INDEX idempotency_run"),
    "large outputs": (trees.KEPT[1], r"USING INDEX run_kept_output"),
    "large outcomes": (trees.KEPT[2], r"USING INDEX checkpoint_kept"),
    "blocked runs": (doctor.BLOCKED, r"USING INDEX run_blocked"),
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
    assert not re.search(r"SCAN (run|checkpoint|wait|event|line|place|lineup|spend|crowd|schedule|listener)\b(?! USING)", plan), (
        plan
    )
