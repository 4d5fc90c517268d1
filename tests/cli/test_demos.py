"""Every demo notebook as a script: what ruff and mypy pass, whose import does nothing, and whose tasks are the notebook's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable_nb.cli.files import load
from durable_nb.cli.versions import add_versions
from durable_nb.export.files import read_notebook
from durable_nb.export.script import Script, export_to
from tests.cli.helpers import ROOT
from tests.notebook.helpers import Shell

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def notebook(request: pytest.FixtureRequest, folder: Path) -> Path:
    """A demo, copied into the folder."""
    path: Path = folder / request.param.name
    path.write_bytes(Path(request.param).read_bytes())
    return path


def exported(notebook: Path) -> tuple[Path, Script]:
    path = notebook.with_suffix(".py")
    return path, export_to(path, read_notebook(notebook), notebook)


def test_a_reviewer_would_take_it(notebook: Path) -> None:
    path, script = exported(notebook)
    assert script.is_formatted
    text = path.read_text()
    assert text.startswith('"""') and "IPython" not in text and "get_ipython" not in text and "%" not in text.split("\n\n")[0]
    ruff, mypy = (sys.executable, "-m", "ruff"), (sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports")
    for tool in (
        [*ruff, "check", "--isolated", "--select", "E4,E7,E9,F,I,B", path.name],
        [*ruff, "format", "--isolated", "--check", path.name],
        [*mypy, "--cache-dir", str(ROOT / ".mypy_cache" / "demos"), path.name],
    ):
        environment = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(tool, cwd=path.parent, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_its_tasks_have_the_notebooks_versions_and_its_import_does_nothing(notebook: Path, folder: Path) -> None:
    path, script = exported(notebook)
    before = sorted(folder.rglob("*"))
    versions = versions_in_script(path)
    assert sorted(item for item in folder.rglob("*") if "__pycache__" not in item.parts) == before, "no log, no file"
    assert versions == versions_in_notebook(notebook, script)
    assert None not in versions.values()


WORKFLOW = """%%workflow etl --retries 1
from durable_nb import UserEventCondition


def grown(rows):
    return [row + 1 for row in rows]


def extract(input: dict, ctx) -> list:
    return grown([1, 2])


@task(parents=[extract], wait_for=[UserEventCondition("go", "input.ok")])
def load(input: dict, ctx) -> int:
    return len(ctx.task_output(extract))"""


def test_a_workflow_of_a_cell_has_its_version_in_the_script_too(folder: Path) -> None:
    notebook = folder / "etl.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": WORKFLOW}]}))
    path, script = exported(notebook)
    versions = versions_in_script(path)
    assert versions == versions_in_notebook(notebook, script)
    assert set(versions) == {"etl", "etl:extract", "etl:load"}
    assert None not in versions.values()


def versions_in_script(path: Path) -> dict[str, str | None]:
    durable = load(path)
    add_versions(durable)
    return {task.name: task.version for task in durable.tasks}


def versions_in_notebook(notebook: Path, script: Script) -> dict[str, str | None]:
    """Execute those cells that came into the script."""
    shell = Shell()
    try:
        shell.load()
        for number, cell in enumerate(read_notebook(notebook)["cells"], start=1):
            if cell["cell_type"] == "code" and number not in script.left_out:
                shell.cell("".join(cell["source"]))
        return {task.name: task.version for task in shell.names["durable"].tasks}
    finally:
        shell.close()
