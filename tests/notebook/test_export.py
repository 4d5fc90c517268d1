"""`%durable export`: the notebook as it was saved, or in a terminal what was entered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.notebook.helpers import Shell

TASK = "%%task --retries 2\ndef double(input: int, ctx) -> int:\n    return 2 * input"


def test_what_was_entered_becomes_a_script(shell: Shell, folder: Path) -> None:
    shell.cell(TASK)
    shell.cell("%durable run double 2 --wait")
    said = shell.cell("%durable export flow.py").text
    assert "flow.py is made of what was entered in this session" in said and "tasks: double" in said
    text = (folder / "flow.py").read_text()
    assert "@durable.task(retries=2)\ndef double(" in text
    assert 'with_name("durable.db")' in text, "it works on the same log"
    assert "is there already" in shell.usage_error("%durable export flow.py")
    shell.cell("%durable export flow.py --force --explore")
    assert "cannot be used" in shell.usage_error("%durable export none/flow.py")


def test_the_notebook_is_exported_as_it_was_saved(bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = folder / "work.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(notebook))
    bare_shell.load()
    cells = [{"cell_type": "code", "source": TASK}]
    notebook.write_text(json.dumps({"cells": cells}))
    assert "work.py is made of the notebook as it was saved at" in bare_shell.cell("%durable export").text
    text = (folder / "work.py").read_text()
    assert 'with_name("work.durable.db")' in text and "def double(" in text


def test_a_notebook_without_tasks_is_refused(shell: Shell) -> None:
    assert "declares no task" in shell.usage_error("%durable export flow.py")
