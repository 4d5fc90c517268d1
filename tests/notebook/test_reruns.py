"""Restart & Run All starts nothing twice, without keys too; running a cell again starts a new run."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebook.helpers import ROOT, Kernel, Shell

DOUBLE = "%%task\ndef double(input: int, ctx) -> int:\n    return 2 * input\n"


def run_cell(shell: Shell, code: str, cell_id: str) -> str:
    """Run a cell as a frontend does that tells its id; give what it says."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        done = shell.ip.run_cell(code, store_history=True, cell_id=cell_id)  # type: ignore[no-untyped-call]
    assert done.success
    return text.getvalue()


def restart(shell: Shell) -> None:
    """Load the extension as a fresh kernel does."""
    shell.cell("%unload_ext durable_nb")
    shell.load()


def count(shell: Shell) -> int:
    return len(shell.cell("durable.runs.list()").result)


def test_the_first_execution_takes_up_the_run_and_the_next_starts_one(shell: Shell) -> None:
    shell.cell(DOUBLE)
    run_cell(shell, "one = %durable run double 1", "a")
    restart(shell)
    said = run_cell(shell, "two = %durable run double 1\ntwo.result()", "a")
    one, two = shell.names["one"].id, shell.names["two"].id
    assert one == two
    assert f"This cell started run {one} before with this input; it is " in said
    assert said.count("Run the cell again for a new one.") == 1
    assert "before with this input" not in run_cell(shell, "three = %durable run double 1", "a")
    assert shell.names["three"].id != one
    restart(shell)
    run_cell(shell, "four = %durable run double 1", "a")
    assert shell.names["four"].id == shell.names["three"].id, "the one that it started last"
    assert count(shell) == 2


def test_another_cell_another_input_and_another_task_start_runs(shell: Shell) -> None:
    shell.cell(DOUBLE)
    shell.cell(DOUBLE.replace("double", "twice"))
    run_cell(shell, "%durable run double 1", "a")
    restart(shell)
    for code, cell_id in (("%durable run double 1", "b"), ("%durable run double 2", "a"), ("%durable run twice 1", "c")):
        assert "before with" not in run_cell(shell, code, cell_id)
    assert count(shell) == 4


def test_a_loop_over_equal_inputs_has_a_run_for_each(shell: Shell) -> None:
    shell.cell(DOUBLE)
    loop = "ids = [get_ipython().run_line_magic('durable', 'run double 1').id for _ in range(3)]"
    run_cell(shell, loop, "a")
    first = shell.names["ids"]
    restart(shell)
    assert run_cell(shell, loop, "a").count("before with this input") == 3
    assert shell.names["ids"] == first
    assert len(set(first)) == 3


def test_a_key_and_a_terminal_have_their_own_ways(shell: Shell) -> None:
    shell.cell(DOUBLE)
    run_cell(shell, "%durable run double 1 --key mine", "a")
    shell.cell("%durable run double 1")
    restart(shell)
    assert "before with" not in run_cell(shell, "%durable run double 1 --key mine", "a")
    assert "before with" not in shell.cell("%durable run double 1").text, "a terminal has no cells"
    assert count(shell) == 3


def test_the_cells_key_is_not_shown(shell: Shell) -> None:
    shell.cell(DOUBLE)
    run_cell(shell, "%durable run double 1", "a")
    assert "key" not in shell.cell("%durable show #1").text


def test_a_bad_input_is_the_same_sentence_in_a_cell(shell: Shell) -> None:
    shell.cell(DOUBLE)
    shell.cell("bad = object()")
    done = shell.ip.run_cell("%durable run double $bad", cell_id="a")  # type: ignore[no-untyped-call]
    assert "JSON" in str(done.error_in_exec)


@pytest.mark.slow
def test_run_all_of_a_whole_notebook_is_idempotent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = ["%load_ext durable_nb", DOUBLE, "handle = %durable run double 21", "print(await handle, handle.id)"]
    texts = []
    for _ in range(2):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        done = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
        texts.append(done.cells[-1].outputs[0].text)
    assert texts[0].startswith("42 ")
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_frontend_that_tells_the_cells_id_is_believed(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(DOUBLE)
    assert "before with" not in kernel.cell("h = %durable run double 1", cell_id="x").text
    kernel.restart()
    kernel.cell("%load_ext durable_nb")
    assert "before with" in kernel.cell("# edited\nh = %durable run double 1", cell_id="x").text
