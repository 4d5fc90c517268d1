"""The writer: group commit, savepoints, order of answers, and what a failed commit does."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.errors import LogFailedError
from durable_nb.log.connection import Connection, connect, prepare
from durable_nb.log.writer import Writer

INSERT = "INSERT INTO journal (run, at, kind) VALUES (1, 0, ?)"


def run(path: Path, work: Callable[[Writer, Connection], Awaitable[None]], failures: list[LogFailedError] | None = None) -> None:
    """Run `work` with a writer on a new log."""

    async def main() -> None:
        connection = await connect(path)
        await connection.run(lambda raw: raw.execute("PRAGMA foreign_keys = OFF").close())
        writer = Writer(connection, path, (failures if failures is not None else []).append)
        try:
            await work(writer, connection)
        finally:
            await writer.close()
            await connection.close()

    prepare(path)
    asyncio.run(main())


def kinds(path: Path) -> list[str]:
    """What is in the log, in order."""
    with closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT kind FROM journal ORDER BY seq")]


def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    commits: list[str] = []

    async def work(writer: Writer, connection: Connection) -> None:
        await connection.run(lambda raw: raw.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None))
        await asyncio.gather(*[writer.submit(lambda raw, n=n: raw.execute(INSERT, (str(n),)).close()) for n in range(100)])  # type: ignore[misc]

    run(tmp_path / "log.db", work)
    assert kinds(tmp_path / "log.db") == [str(number) for number in range(100)]
    assert len(commits) == 1


def test_an_item_fails_alone(tmp_path: Path) -> None:
    def fail(raw: sqlite3.Connection) -> None:
        raw.execute(INSERT, ("half",))
        raise ValueError("in the middle")

    async def work(writer: Writer, connection: Connection) -> None:
        before = writer.submit(lambda raw: raw.execute(INSERT, ("before",)).close())
        failing = writer.submit(fail)
        after = writer.submit(lambda raw: raw.execute(INSERT, ("after",)).close())
        await asyncio.gather(before, after)
        with pytest.raises(ValueError, match="in the middle"):
            await failing

    run(tmp_path / "log.db", work)
    assert kinds(tmp_path / "log.db") == ["before", "after"]


def test_answers_follow_commit_order_and_come_after_the_commit(tmp_path: Path) -> None:
    path, seen = tmp_path / "log.db", list[tuple[int, int]]()

    async def work(writer: Writer, connection: Connection) -> None:
        def then(number: int) -> None:
            seen.append((number, len(kinds(path))))

        await asyncio.gather(*[writer.submit(lambda raw, n=n: raw.execute(INSERT, (str(n),)) and n, then) for n in range(5)])  # type: ignore[misc]

    run(path, work)
    assert seen == [(number, 5) for number in range(5)]


def test_who_stops_waiting_undoes_nothing(tmp_path: Path) -> None:
    async def work(writer: Writer, connection: Connection) -> None:
        done = writer.submit(lambda raw: raw.execute(INSERT, ("kept",)).close())
        done.cancel()
        await writer.submit(lambda raw: None)

    run(tmp_path / "log.db", work)
    assert kinds(tmp_path / "log.db") == ["kept"]


def test_a_foreign_lock_is_waited_out(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    async def work(writer: Writer, connection: Connection) -> None:
        await connection.run(lambda raw: raw.execute("PRAGMA busy_timeout = 1").close())
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            done = writer.submit(lambda raw: raw.execute(INSERT, ("late",)).close())
            await asyncio.wait([done], timeout=0.05)
            assert not done.done()
            holder.execute("ROLLBACK")
        await done

    run(path, work)
    assert kinds(path) == ["late"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of a file are POSIX's")
def test_a_full_disk_fails_the_batch_and_stops_the_writer(tmp_path: Path) -> None:
    import resource
    import signal

    path, failures = tmp_path / "log.db", list[LogFailedError]()

    async def work(writer: Writer, connection: Connection) -> None:
        await writer.submit(lambda raw: raw.execute(INSERT, ("before",)).close())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log.db-wal").stat().st_size, hard))
        try:
            with pytest.raises(LogFailedError, match="what was not acknowledged is not in the log"):
                await writer.submit(lambda raw: raw.execute(INSERT, ("x" * 100_000,)).close())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        with pytest.raises(LogFailedError):
            await writer.submit(lambda raw: raw.execute(INSERT, ("after",)).close())

    run(path, work, failures)
    assert len(failures) == 1
    assert kinds(path) == ["before"]
