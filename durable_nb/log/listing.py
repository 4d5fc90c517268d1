"""Listing runs page by page: filters, order, counts, and the short texts that a table shows.

Invariant: what a page costs is bounded, however long the log is. Counts end at `MOST`; an order that has no index is the order of
the newest `MOST` that fit; a text is looked for among the newest `SEARCHED` runs; no payload is read whole.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from durable_nb.log import reads
from durable_nb.log.records import Failure, RunView

MOST = 10_000
SEARCHED = 100_000
BRIEF = 200  # characters of an input, an output and the metadata

FILTERS = {
    "is_root": "parent IS NULL",
    "status": "status IN (SELECT value FROM json_each(:status))",
    "task": "task = :task",
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "parent": "parent = (SELECT number FROM run WHERE id = :parent)",
    "upto": "number <= :upto",
    "text": """number > (SELECT coalesce(max(number), 0) FROM run) - :searched AND (
        task LIKE :text ESCAPE '\\' OR id LIKE :text ESCAPE '\\' OR key LIKE :text ESCAPE '\\' OR metadata LIKE :text ESCAPE '\\'
        OR (typeof(input) = 'text' AND input LIKE :text ESCAPE '\\') OR error LIKE :text ESCAPE '\\')""",
    "metadata": """NOT EXISTS (
        SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM json_each(run.metadata) AS had
            WHERE had.key = wanted.key
              AND CASE had.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN 'null'
                  ELSE CAST(had.value AS TEXT) END = wanted.value))""",
}
ORDERS = {
    "created": "number",
    "task": "task",
    "state": "status",
    "started": "started_at",
    "took": "coalesce(finished_at, :now) - started_at",
    "key": "key",
}

COUNT = "SELECT count(*) FROM (SELECT 1 FROM run WHERE {filters} LIMIT :most)"
BY_STATUS = "SELECT status, count(*) FROM run WHERE {filters} GROUP BY status"
NAMED = "id IN (SELECT value FROM json_each(:ids))"
NUMBERS = "SELECT number FROM run WHERE {filters} ORDER BY number {way} LIMIT :limit OFFSET :offset"
SORTED = """
SELECT number FROM run WHERE number IN (SELECT number FROM run WHERE {filters} ORDER BY number DESC LIMIT :most)
ORDER BY {order} {way} NULLS LAST, number DESC LIMIT :limit OFFSET :offset"""
IDS = "SELECT id FROM run WHERE {filters} ORDER BY number LIMIT -1"

NAMES = tuple(name for name in reads.COLUMNS.split(", ") if name not in ("home", "deadline"))
SHORT = """CASE typeof({column}) WHEN 'blob' THEN (SELECT substr(body, 1, :brief) FROM payload WHERE hash = {column})
           ELSE substr({column}, 1, :brief) END"""
CUT = {name: SHORT.format(column=name) for name in ("input", "output", "metadata")}
ROWS = (
    f"SELECT {', '.join(CUT.get(name, name) for name in NAMES)} FROM run WHERE number IN (SELECT value FROM json_each(:numbers))"  # noqa: S608
)

TASKS = """
WITH RECURSIVE name (task) AS (
    SELECT min(task) FROM run
    UNION ALL
    SELECT (SELECT min(task) FROM run WHERE task > name.task) FROM name WHERE name.task IS NOT NULL
)
SELECT task FROM name WHERE task IS NOT NULL LIMIT 200"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a table of runs shows.

    Attributes:
        text: is looked for in task, id, key, metadata, input and error, whatever its case.
        metadata: names and values (as text) that the run's metadata holds.
        since, until: of creation, UTC seconds. upto: the number of the newest run that counts.
        is_root: only runs that have no parent. parent: only the children of the run with this id.
        order: one of `ORDERS`.
    """

    status: tuple[str, ...] = ()
    task: str | None = None
    text: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    until: float | None = None
    parent: str | None = None
    is_root: bool = True
    upto: int | None = None
    order: str = "created"
    is_descending: bool = True
    limit: int = 25
    offset: int = 0

    def where(self) -> tuple[str, dict[str, object]]:
        """Give the condition, made of constants, and its values."""
        escaped = (self.text or "").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        given: dict[str, object] = {
            "is_root": (self.is_root and self.parent is None) or None,
            "status": json.dumps(self.status) if self.status else None,
            "task": self.task,
            "since": self.since,
            "until": self.until,
            "parent": self.parent,
            "upto": self.upto,
            "text": f"%{escaped}%" if self.text else None,
            "metadata": json.dumps(dict(self.metadata)) if self.metadata else None,
        }
        held = {name: value for name, value in given.items() if value is not None}
        return " AND ".join(FILTERS[name] for name in held) or "TRUE", {**held, "searched": SEARCHED}

    def page(self, now: float) -> tuple[str, dict[str, object]]:
        """Give the query of the numbers of a page, and its values."""
        filters, values = self.where()
        sql = NUMBERS if self.order == "created" else SORTED
        way = "DESC" if self.is_descending else "ASC"
        limits: dict[str, object] = {"limit": self.limit, "offset": self.offset, "most": MOST, "now": now}
        return sql.format(filters=filters, order=ORDERS[self.order], way=way), {**values, **limits}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of runs.

    Attributes:
        count: of all that fit, no higher than `MOST` + 1.
        newest: the number of the log's newest run.
    """

    runs: tuple[RunView, ...]
    count: int
    newest: int


def page_of(connection: sqlite3.Connection, query: Query, *, now: float) -> Page:
    """Give a page; inputs, outputs and metadata are cut, so they need not be JSON any more."""
    numbers = [number for (number,) in connection.execute(*query.page(now))]
    filters, values = query.where()
    [count] = connection.execute(COUNT.format(filters=filters), {**values, "most": MOST + 1}).fetchone()
    [newest] = connection.execute("SELECT coalesce(max(number), 0) FROM run").fetchone()
    rows = connection.execute(ROWS, {"numbers": json.dumps(numbers), "brief": BRIEF})
    found = {run.number: run for run in map(_run, rows)}
    return Page(runs=tuple(found[number] for number in numbers), count=count, newest=newest)


def count_by_status(connection: sqlite3.Connection, chosen: Query | Sequence[str]) -> dict[str, int]:
    """Count the runs that fit, or that have these ids, all of them, by status."""
    filters, values = chosen.where() if isinstance(chosen, Query) else (NAMED, {"ids": json.dumps(list(chosen))})
    return dict(connection.execute(BY_STATUS.format(filters=filters), values))


def ids_of(connection: sqlite3.Connection, query: Query) -> list[str]:
    """Give the ids of all runs that fit, the oldest first."""
    filters, values = query.where()
    return [run_id for (run_id,) in connection.execute(IDS.format(filters=filters), values)]


def list_tasks(connection: sqlite3.Connection) -> list[str]:
    """Give the names of tasks that have runs."""
    return [task for (task,) in connection.execute(TASKS)]


def _run(row: tuple[Any, ...]) -> RunView:
    values = dict(zip(NAMES, row, strict=True))
    values["error"] = Failure.from_json(str(values["error"])) if values["error"] else None
    values["is_evicted"] = bool(values["is_evicted"])
    return RunView(**values)
