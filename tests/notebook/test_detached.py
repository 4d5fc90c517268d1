"""`%durable detach`: a worker process goes on with the runs when the kernel is gone, and gives them back when it returns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from durable_nb.cli.held import HeldDurable
from durable_nb.client import Durable
from durable_nb.notebook.detached import Note
from tests.notebook.helpers import Kernel, Shell, wait_until

CELLS = (
    "%%task\ndef double(input: int, ctx) -> int:\n    print('doubling')\n    return 2 * input\n",
    "%%durable_task\nasync def waiter(input: int, ctx) -> int:\n"
    "    got = await ctx.aio_wait_for_event('go')\n    return await double.aio_run(input) + got['n']\n",
)


@pytest.fixture
def note(folder: Path) -> Iterator[Note]:
    """The note of the notebook's worker; a worker that a failed test has left is called off."""
    note = Note(folder / "durable.db", "")
    yield note
    said = note.read()
    note.remove()
    with suppress(AssertionError):
        wait_until(lambda: not is_running(said.get("pid")), what="the worker's end", timeout=10)


def is_running(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" if Path("/proc").exists() else True


@pytest.mark.slow
def test_the_worker_goes_on_when_the_kernel_is_killed_and_ends_when_all_is_done(kernel: Kernel, folder: Path, note: Note) -> None:
    kernel.cell("%load_ext durable_nb")
    for cell in CELLS:
        kernel.cell(cell)
    kernel.cell("handle = %durable run waiter 4 --key first")
    said = kernel.cell("%durable detach").text
    assert "serves double, waiter from now on, also when this kernel has ended" in said
    pid = note.read()["pid"]
    assert f"Process {pid} " in said
    kernel.kill()
    with Durable(folder / "durable.db") as script:
        wait_until(lambda: script.event.push("go", {"n": 1}).matched_runs, what="the wait")
        assert script.runs.get_result("first") == 9
        child = script.runs.list(task="double", include_children=True)[0]
        assert [line.text for line in script.runs.logs(child.id)] == ["doubling"], "what it prints goes to the run's log"
        assert script.runs.get("first").owner is None
    wait_until(lambda: "nothing is left to do" in note.output.read_text(), what="its last word")
    wait_until(lambda: not is_running(pid), what="its end")
    kernel.start()
    assert f"the runs were taken back from process {pid}, which served them meanwhile" in kernel.cell("%load_ext durable_nb").text


@pytest.mark.slow
def test_the_notebook_takes_its_runs_back(shell: Shell, note: Note) -> None:
    for cell in CELLS:
        shell.cell(cell)
    shell.cell("%durable run waiter 4 --key first")
    shell.cell("%durable detach")
    pid = note.read()["pid"]
    assert not shell.names["durable"].is_open
    assert shell.cell("durable.runs.get('first').status").result == "RUNNING", "any use of durable opens the log again"
    assert not note.path.exists()
    assert "the notebook took its runs back" in note.output.read_text()
    assert f"taken back from process {pid}" in "\n".join(_lines(shell))
    wait_until(lambda: shell.cell('%durable emit go {"n": 1}').result.matched_runs, what="the wait")
    assert shell.cell("durable.runs.get_result('first')").result == 9
    # a second worker of the notebook replaces the first, and one that dies is not missed
    shell.cell("%durable run waiter 5 --key second")
    shell.cell("%durable detach")
    os.kill(note.read()["pid"], 9)
    wait_until(lambda: shell.cell('%durable emit go {"n": 2}').result.matched_runs, what="the wait")
    assert shell.cell("durable.runs.get_result('second')").result == 12


def _lines(shell: Shell) -> list[str]:
    from durable_nb.notebook.extension import LOADED

    return LOADED[shell.ip].lines()


@pytest.mark.slow
def test_what_it_cannot_serve_is_named(shell: Shell, note: Note) -> None:
    shell.cell("import io\nfile = io.StringIO('text')")
    shell.cell(
        "%%durable_task\nasync def reader(input, ctx):\n    await ctx.aio_wait_for_event('go')\n    return file.getvalue()\n"
    )
    shell.cell("%durable run reader")
    said = shell.cell("%durable detach").text
    assert "serves no task" in said
    assert "reader is not served, its runs wait for this notebook: `file` (io.StringIO)" in said
    wait_until(lambda: "nothing is left to do" in note.output.read_text(), what="its end, since it can do nothing")


def test_a_note_that_says_nonsense_is_no_worker(shell: Shell, note: Note) -> None:
    for nonsense in ("", "[1]", "{", json.dumps({"pid": "x", "worker": 7})):
        shell.cell("%durable close")
        note.path.write_text(nonsense)
        shell.cell("%durable status")


def test_a_worker_of_a_terminal_leaves_the_worker_of_the_notebook_alone(shell: Shell, note: Note, folder: Path) -> None:
    shell.cell(CELLS[0])
    shell.cell("%durable close")
    note.write(token="t")
    held = HeldDurable(folder / "durable.db", "")
    held.restore()
    held.close()
    assert note.read() == {"token": "t"}
    shell.cell("durable.runs.list()")
    assert note.read() == {}
