"""Opening the log, and the one adapter to aiosqlite.

Invariants: a file that is not a log of ours, or is newer than this code, is refused before anything is written to it; a log is
created wholly, in one transaction, or not at all; an existing file is opened by SQLite only, since closing any other descriptor
of it would drop the locks that this process holds on it (POSIX), and another process could then reset the WAL under us.

aiosqlite gives each connection a thread and runs callables on it one after another. `Connection` hands it a whole
transaction as *one* callable, since a hop between threads costs more than most statements; that entry is private in
aiosqlite, so it is touched only here.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

import aiosqlite

from durable_nb.errors import (
    EngineStoppedError,
    LogBusyError,
    LogError,
    LogUnwritableError,
    NewerLogError,
    NotALogError,
    OtherLayoutError,
)
from durable_nb.log.ids import new_id
from durable_nb.log.places import refuse_unfit

T = TypeVar("T")
logger = logging.getLogger(__name__)
Durability = Literal["full", "relaxed"]

APPLICATION_ID = 0x64_6E_62_31  # "dnb1"
BUSY_SECONDS = 30.0
SQLITE_HEADER_BYTES = 100
WAL_BYTES = 4_200_000  # of the thousand pages after which SQLite copies the WAL into the file and begins it again
FULL = 2  # PRAGMA synchronous


CLOSED = "The log was closed before this was done; a later call opens it again."


class Connection:
    """One SQLite connection on a thread of its own. Use it from one event loop."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._is_closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the raw connection on its thread; give what it gives, raise what it raises.

        Raises:
            EngineStoppedError: it was closed.
        """
        if self._is_closed:
            raise EngineStoppedError(CLOSED)
        connection = self._connection
        return await connection._execute(work, connection._conn)  # type: ignore[no-any-return, no-untyped-call]

    def post(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Have `work` done with the raw connection on its thread. It raises nothing, and tells by itself that it is done.

        Raises:
            EngineStoppedError: it was closed.
        """
        if self._is_closed:
            raise EngineStoppedError(CLOSED)
        connection = self._connection
        connection._tx.put_nowait((None, partial(work, connection._conn)))

    async def close(self) -> None:
        """Finish what is queued and close."""
        self._is_closed = True
        await self._connection.close()


async def connect(path: Path, *, durability: Durability = "full", query_only: bool = False) -> Connection:
    """Open a connection to a log that `prepare` has checked."""
    connection = aiosqlite.Connection(lambda: open_sqlite(path, durability=durability, query_only=query_only), iter_chunk_size=64)
    connection._thread.daemon = True  # the interpreter may end while it waits: what was acknowledged is on the disk already
    return Connection(await connection)


def open_sqlite(path: Path, *, durability: Durability = "full", query_only: bool = False) -> sqlite3.Connection:
    """Open the file as the log wants it: explicit transactions, WAL, foreign keys, no trust in the schema's own functions."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_SECONDS,
        cached_statements=512,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA temp_store = MEMORY")
        if query_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def grow_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Give the WAL its full length beforehand, where every commit is flushed.

    A flush that must also record a new length of the file takes nearly twice as long. It is done by a transaction larger than
    its cache, which is rolled back: its frames are written, and count for nothing.
    """
    execute = connection.execute
    wal = path.with_name(f"{path.name}-wal")
    if execute("PRAGMA synchronous").fetchone()[0] < FULL or not wal.exists() or wal.stat().st_size >= WAL_BYTES:
        return
    (pages,) = execute("PRAGMA cache_size").fetchone()
    execute("PRAGMA cache_size = 10")
    try:
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO artifact VALUES (x'', zeroblob(?))", (WAL_BYTES,))
    except sqlite3.OperationalError:  # no room, or another program writes: whoever must write is told of it
        logger.debug("The WAL was not lengthened.", exc_info=True)
    finally:
        if connection.in_transaction:
            execute("ROLLBACK")
        execute(f"PRAGMA cache_size = {pages}")


def prepare(path: Path) -> tuple[str, bool]:
    """Create the log, or check and migrate the one that is there; give its id, and whether it is new. Blocking.

    Raises:
        NotALogError, NewerLogError, OtherLayoutError, LogUnwritableError, LogBusyError, UnfitFolderError: in a sentence; the file
            is as it was.
    """
    refuse_unfit(path)
    is_new = _create_file(path)
    try:
        with contextlib.closing(open_sqlite(path)) as connection:
            _refuse_foreign(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            _migrate(connection, path)
            return str(connection.execute("SELECT id FROM log").fetchone()[0]), is_new
    except sqlite3.Error as error:
        raise explain(error, path) from error
    finally:
        if is_new and path.stat().st_size == 0:
            path.unlink()


def _create_file(path: Path) -> bool:
    """Make an empty file that only its owner may read, if there is none; give whether it was made."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise NotALogError(f"{path} is a folder: name a file for the log.") from None
        if 0 < path.stat().st_size < SQLITE_HEADER_BYTES:  # SQLite would take a file of one byte for an empty one
            raise _not_sqlite(path) from None
        if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise _unwritable(path) from None
        return False
    except OSError as error:
        raise _unwritable(path, error.strerror or "") from None
    return True


def _not_sqlite(path: Path) -> NotALogError:
    return NotALogError(f"{path} is not an SQLite file, so it is no log: name another path; nothing was changed.")


def _unwritable(path: Path, why: str = "read-only") -> LogUnwritableError:
    return LogUnwritableError(
        f"The log {path} cannot be written ({why.lower()}): make its folder and file writable, "
        "or name another path with %durable open PATH."
    )


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]  # second: another may be creating it
    if application != APPLICATION_ID and (application or tables):
        raise NotALogError(f"{path} is an SQLite file of another program: name another path; nothing was changed.")
    _refuse_newer(connection, path)
    _refuse_other_layout(connection, path)


def _refuse_other_layout(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a log that has a version's number but not its tables: one that was made between two releases."""
    connection.execute("BEGIN")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not version:
            return
        columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('log')")]
        row = connection.execute("SELECT layout FROM log").fetchone() if "layout" in columns else None
        if row is None or row[0] != fingerprint(migrations()[:version]):
            raise OtherLayoutError(
                f"{path} was made by a durable_nb between two releases, whose tables were laid out otherwise than those of "
                f"schema version {version}: open it with that one, or name another path; nothing was changed."
            )
    finally:
        connection.execute("ROLLBACK")


def fingerprint(scripts: Sequence[str]) -> str:
    """Give what tells one layout of the tables from another: a hash of the SQL that makes it, without comments and spacing."""
    plain = " ".join(re.sub(r"--.*", "", script) for script in scripts)
    return hashlib.sha256(" ".join(plain.split()).encode()).hexdigest()


def _refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations()):
        raise NewerLogError(
            f"{path} has schema version {version}; this durable_nb knows up to {len(migrations())}: "
            "upgrade durable_nb, or name another path."
        )


def schema_version(path: Path) -> int:
    """Give the schema version of a log that is there; 0 for an empty file.

    Raises:
        LogError: it cannot be read.
    """
    try:
        with contextlib.closing(open_sqlite(path, query_only=True)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise explain(error, path) from error


def migrations() -> list[str]:
    """Give the SQL of every migration, in order; number n brings a log from version n-1 to n."""
    folder = resources.files("durable_nb.log.migrations")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply what is missing, each migration in one transaction; safe when several processes open a new log at once."""
    scripts = migrations()
    for number, script in enumerate(scripts, start=1):
        if connection.execute("PRAGMA user_version").fetchone()[0] >= number:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            _refuse_newer(connection, path)
            if connection.execute("PRAGMA user_version").fetchone()[0] < number:
                for statement in statements(script):
                    connection.execute(statement)
                if number == 1:
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute("INSERT INTO log VALUES (?, ?, '')", (new_id(), time.time()))
                connection.execute("UPDATE log SET layout = ?", (fingerprint(scripts[:number]),))
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def statements(script: str) -> list[str]:
    """Split SQL text into statements, since `executescript` would commit between them."""
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


def explain(error: BaseException, path: Path) -> LogError:
    """Give SQLite's error as a sentence that says what to do."""
    match getattr(error, "sqlite_errorname", ""):
        case name if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return LogBusyError(
                f"Another program held the log {path} for {BUSY_SECONDS:.0f} s: close what has it open, then try again."
            )
        case "SQLITE_NOTADB":
            return _not_sqlite(path)
        case name if name.startswith("SQLITE_CORRUPT"):
            return NotALogError(f"The log {path} is damaged ({error}): restore a copy, or name another path.")
        case name if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return _unwritable(path, str(error))
        case name:
            return LogError(f"The log {path} failed with {name or type(error).__name__}: {error}.")
