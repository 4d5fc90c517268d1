"""Whoever can write the log has no code executed by that: each attack changes rows behind the notebook and loads it again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.definitions import Definition
from tests.notebook.helpers import Shell

CELLS = (
    "%%task --retries 1\ndef double(input: int, ctx) -> int:\n    return 2 * input\n",
    "%%task\ndef triple(input: int, ctx) -> int:\n    return 3 * input\n",
    "%%workflow etl\ndef extract(input: int, ctx) -> int:\n    return input\n"
    "@task(parents=[extract])\ndef load(input: int, ctx) -> int:\n    return ctx.task_output(extract)\n",
)
NAMES = {"double", "triple", "etl"}


@pytest.fixture
def kept(shell: Shell) -> Shell:
    """A notebook whose tasks are in the log, and that was closed."""
    for cell in CELLS:
        shell.cell(cell)
    shell.cell("%unload_ext durable_nb")
    shell.cell("%reset -f")
    return shell


def change(folder: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        assert log.execute(sql, values).rowcount > 0


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("body = replace(body, '2 * input', '6 * input') WHERE task = 'double'", {"double"}),
        ("task = 'harmless' WHERE task = 'double'", {"double"}),
        ("signature = (SELECT signature FROM definition WHERE task = 'triple') WHERE task = 'double'", {"double"}),
        ("signature = x'' WHERE task = 'double'", {"double"}),
        ("body = (SELECT body FROM definition WHERE task = 'triple') WHERE task = 'double'", {"double"}),
        ("options = replace(options, '\"retries\": 1', '\"retries\": 9') WHERE task = 'double'", {"double"}),
        ("options = replace(options, '\"extract\"]', '\"load\"]') WHERE task = 'etl'", {"etl"}),
        ("options = replace(options, '\"parents\": [\"extract\"]', '\"parents\": []') WHERE task = 'etl'", {"etl"}),
        ("body = replace(body, 'return input', 'return 666') WHERE task = 'etl:extract'", {"etl"}),
        ("DELETE FROM definition WHERE task = 'etl:load'", {"etl"}),
        ("options = '[' WHERE task = 'etl'", {"etl"}),
    ],
)  # fmt: skip
def test_what_was_changed_is_not_restored_and_all_else_is(kept: Shell, folder: Path, sql: str, lost: set[str]) -> None:
    change(folder, sql if sql.startswith("DELETE") else f"UPDATE definition SET {sql}")
    kept.load()
    assert NAMES & set(kept.names) == NAMES - lost
    assert "harmless" not in kept.names
    for cell in CELLS:
        kept.cell(cell)
    assert kept.cell("%durable run double 1 --wait").result == 2, "running the cell makes it right again"
    assert kept.cell("%durable run etl 1 --wait").result == {"extract": 1, "load": 1}


@pytest.mark.parametrize(
    "source",
    [
        "def double(input: int, ctx, default=__import__('os').mkdir('owned')) -> int:\n    return 0",
        "@(lambda function: [__import__('os').mkdir('owned'), function][1])\ndef double(input: int, ctx) -> int:\n    return 0",
        "def double(input: __import__('os').mkdir('owned'), ctx) -> int:\n    return 0",
    ],
    ids=["default", "decorator", "annotation"],
)
def test_code_that_would_run_as_it_is_restored_does_not(kept: Shell, folder: Path, source: str) -> None:
    rewrite(folder, source=source)
    assert "not signed by you, so not restored: double" in kept.load()
    assert "double" not in kept.names
    assert "mkdir" in kept.cell("%durable trust").text, "it is shown as text"
    kept.cell("%durable status\n%durable runs")
    assert not (folder / "owned").exists()


def test_a_class_body_and_an_import_that_would_run_do_not(kept: Shell, folder: Path) -> None:
    (folder / "hostile.py").write_text("import os\nos.mkdir('owned')\n")
    code = {"kind": "code", "name": "Model", "source": "class Model:\n    __import__('os').mkdir('owned')", "first_line": 1}
    for binding in ({**code, "future_annotations": False}, {"kind": "import", "name": "hostile", "module": "hostile"}):
        rewrite(folder, bindings=[binding])
        assert "not restored: double" in kept.load()
        kept.cell("%unload_ext durable_nb")
        assert not (folder / "owned").exists()


def rewrite(folder: Path, **fields: object) -> None:
    """Put other code into the definition of `double`, in its right form."""
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        (body,) = log.execute("SELECT body FROM definition WHERE task = 'double'").fetchone()
    text = Definition.from_json(json.dumps({**json.loads(body), **fields})).to_json()
    change(folder, "UPDATE definition SET body = ? WHERE task = 'double'", text)


def test_a_definition_of_another_log_of_the_same_user_is_none_of_this_one(kept: Shell, folder: Path) -> None:
    shutil.copy(folder / "durable.db", folder / "other.db")
    (folder / "durable.db").unlink()
    kept.load()
    kept.cell("%unload_ext durable_nb")
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        log.execute("ATTACH ? AS other", (str(folder / "other.db"),))
        log.execute("INSERT INTO definition SELECT * FROM other.definition")
    assert "not signed by you, so not restored" in kept.load()
    assert not NAMES & set(kept.names)


def test_a_copied_log_is_inert_for_somebody_else(
    kept: Shell, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "durable.db", folder / "copy.db")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "another user"))
    monkeypatch.setenv("DURABLE_NB_LOG", str(folder / "copy.db"))
    assert "was not made by this user, so nothing of it is executed" in kept.load()
    assert not NAMES & set(kept.names)
    shown = kept.cell("%durable trust").text
    assert '# task load: {"cancel_if": [], "kind": "task", "parents": ["extract"]' in shown, "a workflow's shape is shown too"
    assert "1 * input" not in shown
    kept.cell("%durable trust --yes")
    assert kept.cell("%durable run etl 1 --wait").result == {"extract": 1, "load": 1}
