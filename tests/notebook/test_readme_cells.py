"""The README's notebook cells are run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from tests.notebook.helpers import Shell, wait_until

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## In a notebook")[1].split("## In a script")[0]
CHILD, PARENT, LINES = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


def test_the_readmes_cells_do_what_it_says(shell: Shell) -> None:
    shell.cell(CHILD)
    shell.cell(PARENT)
    run, show, emit, last = LINES.strip().splitlines()
    assert last.startswith("await handle")
    handle = shell.cell(f"{run}\nhandle").result
    wait_until(lambda: "waits for `review:ok`" in shell.cell(show.split("#")[0].strip()).text, what="the question")
    assert "reached 1 run" in shell.cell(emit.split("  #")[0].strip()).text
    wait_until(lambda: "sleep 1h" in shell.cell("%durable show first").text, what="the sleep")
    assert handle.status == "RUNNING"
