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
from durable_nb.log.connection import WAL_BYTES, Connection, Durability, connect, prepare
from durable_nb.log.writer import COMMITS_BEFORE_GROWING, Writer

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


def test_an_item_that_is_alone_fails_without_a_trace(tmp_path: Path) -> None:
    def fail(raw: sqlite3.Connection) -> None:
        raw.execute(INSERT, ("half",))
        raise ValueError("in the middle")

    async def work(writer: Writer, connection: Connection) -> None:
        with pytest.raises(ValueError, match="in the middle"):
            await writer.submit(fail)
        await writer.submit(lambda raw: raw.execute(INSERT, ("after",)).close())

    run(tmp_path / "log.db", work)
    assert kinds(tmp_path / "log.db") == ["after"]


def test_what_fails_after_a_commit_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    told: list[str] = []

    def fail(_: object) -> None:
        raise ValueError("afterwards")

    async def work(writer: Writer, connection: Connection) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        writer.post(lambda raw: None, fail, lambda failure, result: None)
        await writer.submit(lambda raw: raw.execute(INSERT, ("beside",)).close())
        await writer.submit(lambda raw: raw.execute(INSERT, ("after",)).close())

    run(tmp_path / "log.db", work)
    assert told == ["afterwards"]
    assert kinds(tmp_path / "log.db") == ["beside", "after"]


@pytest.mark.parametrize(("durability", "is_long"), [("full", True), ("relaxed", False)])
def test_the_wal_is_lengthened_where_commits_are_flushed_and_nothing_of_that_is_in_the_log(
    tmp_path: Path, durability: Durability, is_long: bool
) -> None:
    path = tmp_path / "log.db"

    async def main() -> None:
        connection = await connect(path, durability=durability)
        await connection.run(lambda raw: raw.execute("PRAGMA foreign_keys = OFF").close())
        writer = Writer(connection, path, lambda failure: None)
        for number in range(2 * COMMITS_BEFORE_GROWING):
            await writer.submit(lambda raw, number=number: raw.execute(INSERT, (str(number),)).close())  # type: ignore[misc]
        wal = path.with_name("log.db-wal")
        assert (wal.stat().st_size >= WAL_BYTES) is is_long
        copy = tmp_path / "copy"  # as a kill would leave it
        copy.mkdir()
        for file in (path, wal):
            (copy / file.name).write_bytes(file.read_bytes())
        await writer.close()
        await connection.close()

    prepare(path)
    asyncio.run(main())
    for folder in (tmp_path, tmp_path / "copy"):
        assert kinds(folder / "log.db") == [str(number) for number in range(2 * COMMITS_BEFORE_GROWING)]
        with closing(sqlite3.connect(folder / "log.db")) as database:
            assert database.execute("SELECT count(*) FROM artifact").fetchone() == (0,)
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
