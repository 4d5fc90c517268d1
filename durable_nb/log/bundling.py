"""A bundle: one run with everything below it, as a small log of its own in one file, so that every reader reads it unchanged.

Invariants: it is one snapshot of the log, also of a tree that runs on meanwhile; it holds nothing of other runs, which it may
refer to by words only; it appears under its name when it is whole. A file is taken for a bundle only if its schema is, letter by
letter, the one that this version makes, so that no view or trigger of somebody else is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from durable_nb.errors import LogError, NotALogError
from durable_nb.log.connection import APPLICATION_ID, explain, migrations, open_sqlite, prepare, statements
from durable_nb.log.copying import new_file
from durable_nb.log.reads import find_run
from durable_nb.log.redacting import Redaction
from durable_nb.log.transfer import Payloads, insert, refuse_tangled, rows_of

BUNDLE = """\
CREATE TABLE bundle (
    run      INTEGER NOT NULL,
    made_at  REAL NOT NULL,
    redacted TEXT NOT NULL             -- JSON list of the fields that were taken out
) STRICT"""

TREE = """
WITH RECURSIVE tree (number) AS (SELECT :run UNION ALL SELECT run.number FROM tree JOIN run ON run.parent = tree.number)
SELECT number FROM tree ORDER BY number"""

IN_TREE = "IN (SELECT value FROM json_each(:runs))"
BY_RUN = ("branch", "history", "checkpoint", "cancel", "question", "wait")
SAID = ("journal", "line", "chunk")
EVENTS = f"""
SELECT event FROM event_run WHERE run {IN_TREE} UNION
SELECT event.seq FROM run JOIN event ON event.id = run.event WHERE run.number {IN_TREE}"""  # noqa: S608  constants
PARTS = (
    ("definition", f"SELECT * FROM definition WHERE task IN (SELECT task FROM run WHERE number {IN_TREE})"),  # noqa: S608
    ("run", f"SELECT * FROM run WHERE number {IN_TREE} ORDER BY number"),  # noqa: S608
    *((table, f"SELECT * FROM {table} WHERE run {IN_TREE}") for table in BY_RUN),  # noqa: S608
    ("event", f"SELECT * FROM event WHERE seq IN ({EVENTS})"),  # noqa: S608
    ("event_run", f"SELECT * FROM event_run WHERE run {IN_TREE}"),  # noqa: S608
    *((table, f"SELECT * FROM {table} WHERE run {IN_TREE} ORDER BY seq") for table in SAID),  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a bundle says of itself: its run's number, when it was made (UTC seconds), and the fields that were taken out."""

    run: int
    made_at: float
    redacted: tuple[str, ...]


def write_bundle(source: Path, name: str, target: Path, *, redaction: Redaction, at: float) -> Path:
    """Write a run and all below it into a file; give its path. Blocking.

    Raises:
        UnknownRunError: no run has that name, or several do. LogError: there is such a file already, or it cannot be written.
    """
    with new_file(target) as temporary:
        temporary.unlink()
        try:
            prepare(temporary)
            with (
                contextlib.closing(open_sqlite(source, query_only=True)) as log,
                contextlib.closing(open_sqlite(temporary)) as bundle,
            ):
                log.execute("BEGIN")
                bundle.execute("BEGIN")
                _fill(log, bundle, name, redaction, at)
                bundle.execute("COMMIT")
                bundle.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise explain(error, source) from error
        finally:
            for suffix in ("-wal", "-shm"):
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    return target


def _fill(log: sqlite3.Connection, bundle: sqlite3.Connection, name: str, redaction: Redaction, at: float) -> None:
    root = find_run(log, name).number
    runs = [number for (number,) in log.execute(TREE, {"run": root})]
    inside, payloads = set(runs), Payloads(log, bundle, redaction)
    bundle.execute(BUNDLE)
    bundle.execute("INSERT INTO bundle VALUES (?, ?, ?)", (root, at, json.dumps(redaction.patterns)))
    for table, query in PARTS:
        for row in rows_of(log, query, {"runs": json.dumps(runs)}):
            taken = payloads.taken(table, row)
            for column in ("parent", "forked_from", "child"):  # of other runs there are only words
                if column in taken and table in ("run", "checkpoint") and taken[column] not in inside:
                    taken[column] = None
            if table == "run":
                taken["lineup"], taken["gate"] = None, 2
            insert(bundle, table, taken)


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open a file that should be a bundle, for reading only and without leaving anything beside it.

    Raises:
        NotALogError: it is none, or another program or version has made it. LogError: it cannot be read.
    """
    if not path.is_file():
        raise LogError(f"There is no bundle {path}.")
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cell_size_check = ON")
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID or _schema(connection) != _own_schema():
            raise NotALogError(f"{path} is no bundle that this durable_nb knows: it is of another version, or was made by hand.")
        if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise NotALogError(f"The bundle {path} is damaged: ask for it again.")
        refuse_tangled(connection)
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def read_info(connection: sqlite3.Connection) -> BundleInfo:
    """Give what a bundle says of itself.

    Raises:
        NotALogError: it has no run.
    """
    row = connection.execute(
        "SELECT bundle.run, made_at, redacted FROM bundle JOIN run ON run.number = bundle.run LIMIT 1"
    ).fetchone()
    if row is None:
        raise NotALogError("The bundle holds no run: ask for it again.")
    return BundleInfo(row[0], row[1], tuple(map(str, json.loads(row[2]))))


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    return sorted(connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall(), key=repr)


def _own_schema() -> list[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for script in migrations():
            for statement in statements(script):
                fresh.execute(statement)
        fresh.execute(BUNDLE)
        return _schema(fresh)


def identity(path: Path) -> str:
    """Give what a bundle is known by: its content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return f"bundle {digest.hexdigest()}"
