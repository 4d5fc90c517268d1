"""The notebooks are executed from top to bottom with all their assertions, and so is the README's first command."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from tests.notebook.helpers import ROOT, install_kernelspec

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def kernelspec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter finds the kernel that the wheel ships, and the kernel this package."""
    install_kernelspec(folder.parent / "jupyter")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def execute(path: Path, folder: Path) -> Any:
    """Execute a notebook in a folder with the kernel that it names, up to the first cell that fails.

    A cell with the tag ``crash`` ends its kernel; the cells after it are executed by a new one, as Jupyter does.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = list(enumerate(notebook.cells))
    while cells:
        client = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}})
        with client.setup_kernel():
            while cells:
                index, cell = cells.pop(0)
                if "crash" in cell.metadata.get("tags", []):
                    with pytest.raises(DeadKernelError):
                        client.execute_cell(cell, index)
                    break
                client.execute_cell(cell, index)
    return notebook


def shown(notebook: Any) -> str:
    """Give what the cells of an executed notebook show, as plain text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def headless(*arguments: str | Path, program: Path = ROOT / "notebooks" / "headless.py") -> subprocess.CompletedProcess[str]:
    """Run the README's first command, with its output in a pipe."""
    return subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, timeout=100, check=False)


@every_notebook
def test_a_notebook_is_kept_without_outputs_and_for_the_durable_kernel(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "durable-python3"
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, folder: Path) -> None:
    code = [cell for cell in execute(path, folder).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if "crash" not in cell.metadata.get("tags", []))


@pytest.mark.slow
def test_a_failing_assertion_in_a_notebook_is_noticed(folder: Path, tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("assert False")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(notebook, tmp_path / "failing.ipynb")
    with pytest.raises(CellExecutionError, match="AssertionError"):
        execute(tmp_path / "failing.ipynb", folder)


@pytest.mark.slow
def test_running_all_again_gives_the_same_run(folder: Path) -> None:
    path = ROOT / "notebooks" / "03_fan_out.ipynb"
    first, second = execute(path, folder), execute(path, folder)
    assert shown(first).count("airports:decision reached 1 run") == 1
    assert "airports:decision reached 1 run" not in shown(second)
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        assert log.execute("SELECT count(*) FROM run").fetchone() == (1 + 57 + 1,)


@pytest.mark.slow
def test_the_first_command_kills_a_kernel_and_loses_nothing(folder: Path) -> None:
    done = headless(folder / "demo")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout, "without a terminal there are plain lines"
    assert done.stdout.index("kill -9") < done.stdout.index("1 run goes on") < done.stdout.index("a person is asked about 6")
    assert "3368 airports left: 12 repaired, 8 dropped, decided by Ada" in done.stdout
    counts = r"57 children, (\d+) executions \((\d+) before the kill, (\d+) after it\): (\d+) repeated .*, 0 that had finished"
    found = re.search(counts, done.stdout)
    assert found, done.stdout
    executions, before, after, repeated = map(int, found.groups())
    assert executions == before + after == 57 + repeated
    assert 19 <= before < 57, "it was killed in the middle"
    with (folder / "demo" / "cleaned" / "airports.csv").open() as file:
        assert len(file.readlines()) == 1 + 3_368
    assert "## By Ada" in (folder / "demo" / "cleaned" / "report.md").read_text()


@pytest.mark.slow
def test_the_first_command_leaves_a_folder_with_files_alone(folder: Path) -> None:
    (folder / "mine.txt").write_text("")
    done = headless(folder)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_first_command_fails_where_a_cell_does(folder: Path) -> None:
    program = Path(shutil.copy(ROOT / "notebooks" / "headless.py", folder))
    cell = nbformat.v4.new_code_cell("1 / 0", metadata={"tags": ["run"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "03_fan_out.ipynb")
    done = headless(folder / "demo", program=program)
    assert done.returncode == 1
    assert "failed: ZeroDivisionError: division by zero" in done.stderr
