"""Workflows that cells declare by decorators: run, shown, and gone on with when their cells are run again after a restart."""

from __future__ import annotations

from tests.notebook.helpers import Shell, wait_until

FIRST = (
    "from datetime import timedelta\nfrom durable_nb import *\n"
    "etl = durable.workflow(name='etl')\n"
    "@etl.task()\ndef extract(input: int, ctx: Context) -> int:\n    return input\n"
)
SECOND = (
    "@etl.task(parents=[extract], wait_for=UserEventCondition('go'))\n"
    "def load(input: int, ctx: Context) -> int:\n    return ctx.task_output(extract) + 1\n"
    "@etl.task(parents=[extract], skip_if=ParentCondition(extract, 'output > 1'))\n"
    "def tiny(input: int, ctx: Context) -> int:\n    return 0\n"
)


def test_a_workflow_of_cells_goes_on_when_they_are_run_again(bare_shell: Shell) -> None:
    bare_shell.load()
    for cell in (FIRST, SECOND):
        bare_shell.cell(cell)
    bare_shell.cell("run = %durable run etl 2\nrun_id = run.id")
    run_id = bare_shell.names["run_id"]
    wait_until(lambda: "waits for `go`" in bare_shell.cell(f"%durable show {run_id}").text, what="the wait")
    text = bare_shell.cell(f"%durable show {run_id}").text
    assert "↷ skip tiny: its skip_if is true" in text
    assert "child etl:extract" in text
    assert "workflow" in bare_shell.cell("%durable status").text
    bare_shell.cell("%unload_ext durable_nb")
    again = Shell()
    try:
        again.load()
        again.cell(FIRST)
        again.cell(SECOND)
        again.cell("%durable emit go {}")
        assert again.cell(f"durable.runs.get_result('{run_id}')").result == {"extract": 2, "load": 3, "tiny": {"skipped": True}}
    finally:
        again.close()
