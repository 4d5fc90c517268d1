"""The limit: SQLite alone, with rows of a checkpoint's size, and nothing of an engine around it.

Three ways to the disk: a commit on the caller's own thread, a writer thread that an event loop awaits row by row, and the same
thread with group commit, where what waits while a commit is under way goes into the next one.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.benchmarks.measure import Measured, Meter, Setting, latencies

ROW_BYTES = 160  # of a memo's row in the log
CREATE = "CREATE TABLE fact (run INTEGER, node INTEGER, body TEXT, PRIMARY KEY (run, node)) WITHOUT ROWID"
INSERT = "INSERT INTO fact VALUES (?, ?, ?)"

Row = tuple[int, int, str]
Waiting = tuple[Row, asyncio.Future[None]]


def sequential(setting: Setting) -> Measured:
    """One coroutine, one row a commit, through a writer thread."""
    return asyncio.run(_through_thread(setting, "FULL", runs=1, rows=setting.count(1000, least=5)))


def relaxed(setting: Setting) -> Measured:
    """The same, with synchronous=NORMAL."""
    return asyncio.run(_through_thread(setting, "NORMAL", runs=1, rows=setting.count(1000, least=5)))


def concurrent(setting: Setting) -> Measured:
    """100 coroutines of 20 rows each, with group commit."""
    return asyncio.run(_through_thread(setting, "FULL", runs=setting.count(100, least=2), rows=20))


def commit(setting: Setting) -> Measured:
    """One row a commit on the caller's own thread."""
    seconds, count = [], setting.count(1000, least=5)
    with opened(setting.folder, "FULL") as connection, Meter(setting.folder) as meter:
        for node in range(count):
            began = time.perf_counter()
            write(connection, [(1, node, "x" * ROW_BYTES)])
            seconds.append(time.perf_counter() - began)
    return Measured(count, meter.figures(count) | latencies(seconds))


@contextmanager
def opened(folder: Path, synchronous: Literal["FULL", "NORMAL"]) -> Iterator[sqlite3.Connection]:
    """Open a database as the log's writer has it."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(CREATE)
    try:
        yield connection
    finally:
        connection.close()


def write(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Write rows in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")


async def _through_thread(setting: Setting, synchronous: Literal["FULL", "NORMAL"], *, runs: int, rows: int) -> Measured:
    loop, waiting = asyncio.get_running_loop(), queue.SimpleQueue[Waiting | None]()

    def work(connection: sqlite3.Connection) -> None:
        while (first := waiting.get()) is not None:
            batch = [first]
            while not waiting.empty() and (another := waiting.get()) is not None:
                batch.append(another)
            write(connection, [row for row, _ in batch])
            loop.call_soon_threadsafe(_tell, [future for _, future in batch])

    async def one(run: int) -> None:
        for node in range(rows):
            future = loop.create_future()
            waiting.put(((run, node, "x" * ROW_BYTES), future))
            await future

    with opened(setting.folder, synchronous) as connection:
        thread = threading.Thread(target=work, args=(connection,), daemon=True)
        thread.start()
        with Meter(setting.folder) as meter:
            await asyncio.gather(*[one(run) for run in range(runs)])
        waiting.put(None)
        thread.join()
        (count,) = connection.execute("SELECT count(*) FROM fact").fetchone()
    assert count == runs * rows
    return Measured(count, meter.figures(count))


def _tell(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)
