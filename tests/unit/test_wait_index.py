"""Paging through the index of waits: whatever the size of the pages, each condition that may match comes once, and no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from durable_nb.log import waits
from durable_nb.log.connection import open_sqlite, prepare
from durable_nb.log.records import AcceptedEvent

INSERT = """
INSERT INTO wait (run, branch, node, item, group_number, kind, name, key, scope, floor, matched_at, filter_fields, filter_value)
VALUES (?, ?, ?, ?, 0, 'event', 'go', ?, ?, ?, ?, ?, ?)"""
EVENT = AcceptedEvent(seq=5, id="e", key="go", scope="s", payload="{}", metadata="{}", accepted_at=0.0)
FIELDS = {"a": b"\x01" * 16, "b": b"\xff" * 16, "c": None}  # what the event tells of them
ROWS = st.lists(
    st.tuples(
        st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(0, 1)),
        st.sampled_from(["go", "other"]),
        st.sampled_from([None, "s", "t"]),
        st.sampled_from([4, 5]),
        st.sampled_from([None, -1.0]),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from([b"\x00" * 16, b"\x01" * 16, b"\xff" * 16]),
    ),
    max_size=25,
    unique_by=lambda row: row[0],
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("waits") / "log.db"
    prepare(path)
    with closing(open_sqlite(path)) as connection:
        yield connection


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, limit=st.integers(1, 6))
def test_pages_hold_each_candidate_once(
    log: sqlite3.Connection,
    rows: list[tuple[waits.Place, str, str | None, int, float | None, str, bytes]],
    limit: int,
) -> None:
    log.execute("BEGIN")
    try:
        for place, key, scope, floor, matched_at, fields, value in rows:
            log.execute(INSERT, (*place, key, scope, floor, matched_at, fields, value if fields else b""))
        found: list[waits.Place] = []
        rest: waits.Spot | None = waits.FIRST_SPOT
        while rest is not None:
            page, rest = waits.candidates(log, EVENT, lambda fields: FIELDS[fields], rest, limit)
            assert len(page) <= limit
            assert page == sorted(page, key=lambda candidate: candidate.place)
            found += [candidate.place for candidate in page]
    finally:
        log.execute("ROLLBACK")
    expected = [
        place
        for place, key, scope, floor, matched_at, fields, value in rows
        if key == "go" and scope in (None, "s") and floor < EVENT.seq and matched_at is None
        if not fields or FIELDS[fields] in (None, value)
    ]
    assert sorted(found) == sorted(expected)
