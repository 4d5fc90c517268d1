"""Opening a log: what is refused, with what words, and that a refused file stays as it was."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.errors import LogBusyError, LogUnwritableError, NewerLogError, NotALogError, OtherLayoutError
from durable_nb.log import connection
from durable_nb.log.connection import APPLICATION_ID, migrations, prepare, statements


def test_a_new_log_is_made_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    log_id, is_new = prepare(path)
    assert is_new
    assert prepare(path) == (log_id, False)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        assert database.execute("PRAGMA user_version").fetchone()[0] == len(migrations())
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"x", b"0123456789", b"not a database at all\n" * 100, b"SQLite format 3\x00" + b"\xff" * 4096, b"\x00" * 512]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotALogError, match=r"notes\.txt is (not an SQLite file|damaged).* name another path"):
        prepare(path)
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["notes.txt"]


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (x)")
    content = path.read_bytes()
    with pytest.raises(NotALogError, match="another program"):
        prepare(path)
    assert path.read_bytes() == content


def test_a_newer_log_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    prepare(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    with pytest.raises(NewerLogError, match=f"version {len(migrations()) + 1}; .* up to {len(migrations())}: upgrade"):
        prepare(path)


@pytest.mark.parametrize("change", ["DROP TABLE log; CREATE TABLE log (id, created_at)", "UPDATE log SET layout = 'another'", ""])
def test_a_log_of_a_version_between_two_releases_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "log.db"
    prepare(path)
    now = migrations()
    if change:
        with closing(sqlite3.connect(path)) as database:
            database.executescript(change)
    else:
        monkeypatch.setattr(connection, "migrations", lambda: [now[0] + "CREATE TABLE more (x);"])
    content = path.read_bytes()
    with pytest.raises(OtherLayoutError, match=r"log\.db was made by a durable_nb between two releases.*name another path"):
        prepare(path)
    assert path.read_bytes() == content


def test_a_comment_in_a_migration_changes_no_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    log_id, _ = prepare(path)
    now = migrations()
    monkeypatch.setattr(connection, "migrations", lambda: ["-- a remark\n" + now[0].replace("    id ", "    id   ")])
    assert prepare(path) == (log_id, False)
    monkeypatch.setattr(connection, "migrations", lambda: [now[0], "CREATE TABLE later (x);"])
    assert prepare(path) == (log_id, False)
    assert prepare(path) == (log_id, False)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotALogError, match="is a folder"):
        prepare(tmp_path)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(LogUnwritableError, match="cannot be written"):
        prepare(tmp_path / "nowhere" / "log.db")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anything; CI runs as root, people do not"
)
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LogUnwritableError, match="make its folder and file writable"):
        prepare(tmp_path / "log.db")


def test_what_the_system_calls_read_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    prepare(path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write whatever the mode says, so ask the answer itself
    with pytest.raises(LogUnwritableError, match="make its folder and file writable"):
        prepare(path)


def test_a_held_lock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    prepare(path)
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(connection, "migrations", lambda: [*migrations(), "CREATE TABLE later (x);"])
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogBusyError, match="held the log"):
            prepare(path)


def test_ten_that_open_a_new_log_at_once_make_one(tmp_path: Path) -> None:
    path, found = tmp_path / "race.db", list[tuple[str, bool]]()
    threads = [threading.Thread(target=lambda: found.append(prepare(path))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 10
    assert len({log_id for log_id, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1


def test_a_migration_is_applied_once_and_wholly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    log_id, _ = prepare(path)
    now = migrations()
    monkeypatch.setattr(
        connection, "migrations", lambda: [*now, "CREATE TABLE later (x);\nINSERT INTO later VALUES (1);\nBROKEN;"]
    )
    with pytest.raises(Exception, match="BROKEN"):
        prepare(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'later'").fetchone() == (0,)
    monkeypatch.setattr(connection, "migrations", lambda: [*now, "CREATE TABLE later (x);\nINSERT INTO later VALUES (1);"])
    assert prepare(path) == (log_id, False)
    assert prepare(path) == (log_id, False)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM later").fetchone() == (1,)


def test_a_script_is_split_where_statements_end() -> None:
    assert [part.strip() for part in statements("SELECT ';' -- a; b\n;\nSELECT 2;\n")] == ["SELECT ';' -- a; b\n;", "SELECT 2;"]
