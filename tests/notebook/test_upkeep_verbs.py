"""`%durable gc`, `doctor`, `backup` and `bundle`: what the Python API does, told in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_nb import open_bundle
from durable_nb.client.upkeep import doctor
from durable_nb.errors import LogError
from tests.notebook.helpers import Shell


@pytest.fixture
def cells(shell: Shell) -> Shell:
    shell.cell("%%task\ndef shout(input: str, ctx) -> str:\n    return input.upper()\n")
    shell.cell('%durable run shout "hello" --wait --key it')
    return shell


def test_a_run_is_bundled_and_the_log_copied(cells: Shell, folder: Path) -> None:
    assert "holds the run with its history and code" in cells.cell("%durable bundle it shout.bundle").text
    assert open_bundle(folder / "shout.bundle").run.output == '"HELLO"'
    assert "The log was copied to" in cells.cell("%durable backup copy.db").text
    assert doctor(folder / "copy.db").is_healthy
    assert "exists already, and nothing is written over" in cells.usage_error("%durable backup copy.db")


def test_the_doctor_and_gc_say_what_they_found(cells: Shell) -> None:
    output = cells.cell("%durable doctor")
    assert output.text.startswith("1 run, 0 unfinished, 0 events;")
    assert "Nothing is damaged, stuck or slow." in output.text
    assert output.result.is_healthy
    assert "Would remove 1 run with all below them (1 in all), and 0 events; nothing was changed." in (
        cells.cell("%durable gc --older-than 0s --named --dry-run").text
    )
    assert cells.cell("%durable gc --older-than 0s").result.runs == 0, "it was named for good"
    assert "Removed 1 run" in cells.cell("%durable gc --older-than 0s --named --status completed").text
    assert "status='RUNNING'" in str(cells.try_cell("%durable gc --status running").error)


def test_a_log_is_examined_without_an_engine(cells: Shell, folder: Path) -> None:
    cells.cell("%durable status")
    assert doctor(folder / "durable.db").is_healthy
    with pytest.raises(LogError, match="There is no log"):
        doctor(folder / "missing.db")
    (folder / "text.db").write_text("no database, but text that is longer than a header of SQLite's files " * 3)
    with pytest.raises(LogError, match="is not an SQLite file"):
        doctor(folder / "text.db")
