"""Where else cells run: under papermill, and in IPython in a terminal. (test_demo.py has nbclient, tests/browser the pages.)"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebook.helpers import ROOT, install_kernelspec

pytestmark = pytest.mark.slow

TASKS = [
    "%load_ext durable_nb",
    "number = 1",
    "%%task\ndef double(input: int, ctx) -> int:\n    print('doubling')\n    return 2 * input",
    "%%durable_task\nasync def four_times(input: int, ctx) -> int:\n    return await double.aio_run(await double.aio_run(input))",
    "handle = %durable run four_times $number\nawait handle",
]


def test_papermill_runs_a_notebook_with_parameters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papermill = pytest.importorskip("papermill", reason="papermill is of the extra `test`")
    install_kernelspec(folder.parent / "jupyter")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [nbformat.v4.new_code_cell(source) for source in TASKS]
    cells[1].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "durable-python3", "display_name": "Durable Python 3", "language": "python"}
    nbformat.write(notebook, folder / "given.ipynb")
    papermill.execute_notebook("given.ipynb", "done.ipynb", parameters={"number": 10}, progress_bar=False, cwd=str(folder))
    [result] = [output for output in nbformat.read(folder / "done.ipynb", as_version=4).cells[-1].outputs if "data" in output]
    assert result.data["text/plain"] == "40"


class Terminal:
    """IPython in a pseudo-terminal, as a person uses it."""

    def __init__(self, folder: Path) -> None:
        import pexpect

        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "COLUMNS": "120"}
        options = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"]
        self._child: Any = pexpect.spawn(
            sys.executable, options, cwd=str(folder), env=environment, encoding="utf-8", timeout=30, dimensions=(40, 120)
        )
        self._child.setecho(False)
        self._child.expect(r"In \[\d+\]: ")

    def cell(self, *lines: str) -> str:
        """Type a cell; give what was printed until the next prompt."""
        for line in lines:
            self._child.sendline(line)
        if lines[0].startswith("%%"):  # a magic's cell is at its end when nothing follows an empty line
            self._child.sendline("")
            self._child.sendline("")
        self._child.expect(r"\r\nIn \[\d+\]: (?!.*In \[)")
        return re.sub(r"\s*\.\.\.: ", "", str(self._child.before)).replace("\r\n", "\n").strip()

    def interrupt(self, line: str, *, at: str) -> str:
        """Type a cell, and interrupt it when it has printed `at`."""
        self._child.sendline(line)
        self._child.expect(at)
        self._child.sendintr()
        self._child.expect(r"In \[\d+\]: ")
        return str(self._child.before)

    def leave(self) -> None:
        """Type `exit`; the process ends by itself."""
        import pexpect

        self._child.sendline("exit")
        self._child.expect(pexpect.EOF)
        self._child.close()
        assert self._child.exitstatus == 0

    def kill(self) -> None:
        """End it without a word."""
        self._child.close(force=True)


@pytest.fixture
def terminals(folder: Path) -> Iterator[list[Terminal]]:
    """The terminals of a test, gone at its end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals to type into")
def test_ipython_in_a_terminal(folder: Path, terminals: list[Terminal]) -> None:
    terminals.append(first := Terminal(folder))
    assert "none lacks its definition" in first.cell("%load_ext durable_nb")
    first.cell("%%durable_task", "async def ask(input, ctx):", "    return await ctx.aio_wait_for_event('go')")
    shown = first.cell("%durable run ask --key first")
    assert "ask" in shown
    assert "<" not in shown.replace("<run", ""), "plain text, no markup"
    first.cell("handle = durable.runs.get_run_ref('first')")
    stopped = first.interrupt("print('wait', 'ing'); handle.result()", at="wait ing")
    assert "KeyboardInterrupt" in stopped
    assert "waits for" in first.cell("%durable runs")
    first.leave()
    terminals.append(second := Terminal(folder))
    assert "1 run goes on, 1 waits for an event" in second.cell("%load_ext durable_nb")
    assert "reached 1 run" in second.cell('%emit go {"by": "ann"}')
    assert "'by': 'ann'" in second.cell("durable.runs.get_result('first')")
    second.leave()
