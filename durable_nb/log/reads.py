"""Reads: current states for handles and views. Short, on a reader's connection; each statement sees one snapshot."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from durable_nb.errors import UnknownRunError
from durable_nb.log.payloads import loaded
from durable_nb.log.records import Failure, RunView

COLUMNS = (
    "number, id, task, kind, version, status, is_evicted, blocked_reason, key, parent, retry_count, invocation_count, branch, "
    "owner, ready_at, gate, event, created_at, started_at, finished_at, input, output, error, metadata, home, "
    "progress, progress_message, deadline, cancelled_at"
)

MAX_NUMBER_DIGITS = 18  # SQLite's integers have 64 bits
FIND_NUMBER = f"SELECT {COLUMNS} FROM run WHERE number = ?"  # noqa: S608  a constant
FIND_KEY = f"SELECT {COLUMNS} FROM run WHERE key = ?"  # noqa: S608
FIND_START = f"SELECT {COLUMNS} FROM run WHERE id >= :low AND id < :high ORDER BY number LIMIT 2"  # noqa: S608
FIND_END = f"SELECT {COLUMNS} FROM run WHERE id LIKE :pattern ORDER BY number LIMIT 2"  # noqa: S608

LIST = f"SELECT {COLUMNS} FROM run WHERE {{filters}} ORDER BY number DESC LIMIT :limit OFFSET :offset"  # noqa: S608
FILTERS = {
    "roots": "parent IS NULL",
    "status": "status IN (SELECT value FROM json_each(:status))",
    "task": "task = :task",
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "parent": "parent = (SELECT number FROM run WHERE id = :parent)",
    "event": """number IN (
        SELECT event_run.run FROM event JOIN event_run ON event_run.event = event.seq WHERE event.key = :event)""",
    "metadata": """NOT EXISTS (
        SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM json_each(run.metadata) AS had
            WHERE had.key = wanted.key AND had.value IS wanted.value
              AND (had.type = wanted.type
                   OR (had.type IN ('integer', 'real') AND wanted.type IN ('integer', 'real')))))""",
}

CHECKPOINTS = """
SELECT checkpoint.branch, node, checkpoint.kind, ask, line, child.id, asked_at, seq, recorded_at,
       checkpoint.error IS NOT NULL, abandoned
FROM checkpoint LEFT JOIN run AS child ON child.number = checkpoint.child
WHERE checkpoint.run = ? ORDER BY node, checkpoint.branch"""

CHILDREN = "SELECT task, status, count(*), min(number) FROM run WHERE parent = ? GROUP BY task, status ORDER BY min(number)"

WAITS = """
SELECT node, kind, name, due_at, key, scope, expression, filter_error FROM wait
WHERE run = ? AND matched_at IS NULL ORDER BY node, item"""

AWAITED = "SELECT DISTINCT key FROM wait WHERE key IS NOT NULL AND matched_at IS NULL ORDER BY key LIMIT ?"

LAST_KEY = "SELECT key FROM run WHERE key > ? AND key < ? ORDER BY key DESC LIMIT 1"

STATUS = """
SELECT (SELECT count(*) FROM run WHERE status IN ('QUEUED', 'RUNNING') AND parent IS NULL),
       (SELECT count(*) FROM run WHERE blocked_reason IS NOT NULL),
       (SELECT count(DISTINCT run) FROM wait WHERE key IS NOT NULL AND schema IS NULL AND matched_at IS NULL),
       (SELECT count(DISTINCT run) FROM wait WHERE schema IS NOT NULL AND matched_at IS NULL)"""


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A checkpoint as people see it."""

    branch: int
    node: int
    kind: str
    ask: str
    line: int | None
    child_id: str | None
    asked_at: float
    seq: int | None
    recorded_at: float | None
    is_failed: bool
    is_abandoned: bool


@dataclass(frozen=True, slots=True)
class WaitView:
    """An open condition as people see it."""

    node: int
    kind: str
    name: str
    due_at: float | None
    key: str | None
    scope: str | None
    expression: str | None
    filter_error: str | None


def run_view(connection: sqlite3.Connection, row: tuple[Any, ...]) -> RunView:
    """Give a row of `COLUMNS` as a record."""
    values = dict(zip(COLUMNS.split(", "), row, strict=True))
    values["input"] = loaded(connection, values["input"])
    values["output"] = loaded(connection, values["output"])
    values["error"] = Failure.from_json(str(values["error"])) if values["error"] else None
    values["is_evicted"] = bool(values["is_evicted"])
    return RunView(**values)


def find_run(connection: sqlite3.Connection, name: str) -> RunView:
    """Give the run of an id, the start or the end of one, a key, or ``#number``.

    Raises:
        UnknownRunError: none, or several.
    """
    try:
        rows = _rows_named(connection, name)
    except UnicodeEncodeError:  # half a character, which no id or key holds
        raise UnknownRunError(f"No run {name!a} is in this log: `%durable runs` lists them.") from None
    if not rows:
        raise UnknownRunError(f"No run '{name}' is in this log: `%durable runs` lists them.")
    if len(rows) > 1:
        raise UnknownRunError(f"Several runs match '{name}': give more of its id.")
    return run_view(connection, rows[0])


def _rows_named(connection: sqlite3.Connection, name: str) -> list[tuple[Any, ...]]:
    if name.startswith("#") and name[1:].isdecimal() and len(name) <= MAX_NUMBER_DIGITS:
        return connection.execute(FIND_NUMBER, (int(name[1:]),)).fetchall()
    rows = connection.execute(FIND_KEY, (name,)).fetchall()
    is_id = name.isalnum() and name.isascii()
    if not rows and is_id:
        rows = connection.execute(FIND_START, {"low": name.upper(), "high": name.upper() + "~"}).fetchall()
    if not rows and is_id and len(name) >= 4:
        rows = connection.execute(FIND_END, {"pattern": f"%{name.upper()}"}).fetchall()
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs: those for which everything that is given holds.

    Attributes:
        since, until: of creation, UTC seconds; `until` is excluded.
        parent: a run's id. metadata: JSON object whose keys and values the run's metadata holds.
        event: the key of an event that satisfied or advanced a wait of the run.
        roots: only runs that have no parent.
    """

    status: tuple[str, ...] | None = None
    task: str | None = None
    since: float | None = None
    until: float | None = None
    metadata: str | None = None
    parent: str | None = None
    event: str | None = None
    roots: bool = False

    def as_json(self) -> dict[str, object]:
        """Give what is chosen by, as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}

    def sql(self, *, limit: int, offset: int = 0) -> tuple[str, dict[str, object]]:
        """Give the query, made of constants, and its values."""
        given = self.as_json()
        filters = " AND ".join(FILTERS[name] for name in given) or "TRUE"
        values = {**given, "status": json.dumps(self.status), "limit": limit, "offset": offset}
        return LIST.format(filters=filters), values


def list_runs(connection: sqlite3.Connection, chosen: RunFilter, *, limit: int, offset: int = 0) -> list[RunView]:
    """Give runs, the newest first."""
    return [run_view(connection, row) for row in connection.execute(*chosen.sql(limit=limit, offset=offset))]


def list_checkpoints(connection: sqlite3.Connection, number: int) -> list[CheckpointView]:
    """Give the checkpoints of all branches of a run."""
    rows = connection.execute(CHECKPOINTS, (number,))
    return [CheckpointView(*row[:-2], *map(bool, row[-2:])) for row in rows]


def count_children(connection: sqlite3.Connection, number: int) -> list[tuple[str, str, int]]:
    """Give (task, status, count) of a run's children."""
    return [(task, status, count) for task, status, count, _ in connection.execute(CHILDREN, (number,))]


def list_waits(connection: sqlite3.Connection, number: int) -> list[WaitView]:
    """Give the open conditions of a run."""
    return [WaitView(*row) for row in connection.execute(WAITS, (number,))]


def last_key(connection: sqlite3.Connection, prefix: str) -> str | None:
    """Give the last of the runs' keys that begin so, or None."""
    row = connection.execute(LAST_KEY, (prefix, prefix + "~")).fetchone()
    return None if row is None else str(row[0])


def list_awaited_keys(connection: sqlite3.Connection, *, limit: int) -> list[str]:
    """Give the keys of events that some run waits for."""
    return [key for (key,) in connection.execute(AWAITED, (limit,))]


def count_status(connection: sqlite3.Connection) -> tuple[int, int, int, int]:
    """Give the numbers of unfinished root runs, of blocked runs, of runs that wait for an event, and of those that ask people."""
    return connection.execute(STATUS).fetchone()  # type: ignore[no-any-return]
