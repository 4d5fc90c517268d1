"""`doctor`, `gc`, `backup`, `bundle` and `open`: keeping a log in order, and taking runs out of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb import open_bundle
from tests.cli.helpers import command, lines_of, make_script, query


@pytest.fixture
def log(folder: Path) -> Path:
    """A log in which two runs of `story` have ended."""
    script = str(make_script(folder))
    for _ in range(2):
        command("run", "story", "0", "-f", script)
    return folder / "flow.durable.db"


def test_doctor_ends_with_one_where_something_is_damaged_or_stuck(log: Path) -> None:
    assert command("doctor").stdout.splitlines()[0].startswith("2 runs, 0 unfinished, 0 events; ")
    [report] = lines_of(command("doctor", "--quick", "--json"))
    assert report["facts"]["runs"] == 2 and report["findings"] == []
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("UPDATE run SET status = 'FAILED' WHERE number = 1")
    [report] = lines_of(command("doctor", "--json", code=1))
    assert [finding["kind"] for finding in report["findings"]] == ["damage"]
    assert report["findings"][0]["text"] in command("doctor", code=1).stdout


def test_gc_says_what_it_removes_and_a_dry_run_changes_nothing(log: Path) -> None:
    assert command("gc").stdout == "Removed 0 runs with all below them (0 in all), and 0 events.\n"
    [removed] = lines_of(command("gc", "--older-than", "0s", "--dry-run", "--json"))
    assert removed == {"trees": 2, "runs": 2, "events": 0, "bodies": None, "is_dry_run": True}
    assert query(log, "SELECT count(*) FROM run") == [(2,)]
    assert command("gc", "--older-than", "0s", "--status", "failed").stdout.startswith("Removed 0 runs ")
    assert command("gc", "--older-than", "0s").stdout.startswith("Removed 2 runs ")
    assert query(log, "SELECT count(*) FROM run") == [(0,)]


def test_a_backup_is_a_log_of_its_own_and_nothing_is_written_over(log: Path) -> None:
    assert command("backup", "copy.db").stdout.strip() == str(log.with_name("copy.db"))
    assert [run["number"] for run in lines_of(command("runs", "--json", "-l", "copy.db"))] == [2, 1]
    assert "exists already, and nothing is written over" in command("backup", "copy.db", code=6).stderr


def test_a_bundle_is_shown_replayed_and_made_a_test(log: Path) -> None:
    command("bundle", "#1", "one.bundle")
    shown = command("open", "one.bundle").stdout
    assert "story" in shown and "memo" in shown
    assert "async def story" in command("open", "one.bundle", "--source").stdout
    assert command("open", "one.bundle", "--replay").stdout == "run #1: goes on\n"
    command("open", "one.bundle", "--to-test", "test_one.py", "--module", "flow")
    assert "from flow import durable" in Path("test_one.py").read_text()


def test_a_bundle_of_another_user_is_replayed_only_when_it_is_trusted(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("bundle", "#1", "one.bundle")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(log.with_name("another")))
    assert "read bundle.sources(), then say bundle.trust()" in command("open", "one.bundle", "--replay", code=6).stderr
    assert command("open", "one.bundle", "--replay", "--trust").stdout == "run #1: goes on\n"


def test_a_bundle_leaves_out_the_fields_that_are_named(log: Path) -> None:
    command("run", "listener", '{"name": "ada", "token": "s3cret"}', "-f", "flow.py")
    command("bundle", "#3", "greeting.bundle", "--redact", "token")
    body = Path("greeting.bundle").read_bytes()
    assert b"s3cret" not in body and b"ada" in body
    assert open_bundle("greeting.bundle").info.redacted == ("token",)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["doctor", "-l", "none.db"], 4, "There is no log"),
        (["backup", "b.db", "-l", "none.db"], 4, "There is no log"),
        (["gc", "--status", "odd"], 2, "gc removes runs that have ended"),
        (["gc", "--older-than", "soon"], 2, "soon"),
        (["bundle", "#9", "nine.bundle"], 4, "#9"),
        (["open", "none.bundle"], 6, "none.bundle"),
        (["open", "flow.py"], 6, "flow.py"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_errors_are_a_sentence_and_an_exit_code(log: Path, arguments: list[str], code: int, words: str) -> None:
    before = sorted(log.parent.iterdir())
    done = command(*arguments, code=code)
    assert words in done.stderr and not done.stdout and "Traceback" not in done.stderr
    assert sorted(log.parent.iterdir()) == before
