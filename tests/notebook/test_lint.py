"""What a replay would do again is said under the cell that defines the task, and nothing is refused for it."""

from __future__ import annotations

from tests.notebook.helpers import Shell

CELL = """%%durable_task
import random as chance
from datetime import datetime as dt

def stamp():
    return dt.now().isoformat()

async def f(input, ctx):
    chosen = chance.choice([1, 2])
    quiet = chance.choice([1, 2])  # durable: ok
    later = await ctx.aio_memo(lambda: chance.choice([1, 2]), int)
    return [chosen in (1, 2), bool(stamp())]
"""


def test_the_cell_shows_the_lines_and_the_task_runs(shell: Shell) -> None:
    said = shell.cell(CELL).text.splitlines()
    assert said == [
        "Note: `f`, line 9: chance.choice() gives another value in a replay: use `ctx.random()`, or `await ctx.aio_memo(…)`.",
        "Note: `stamp`, line 6: dt.now() reads the clock, which a replay sees differently: use `await ctx.aio_now()`.",
    ]
    assert shell.cell("%durable run f --wait").result == [True, True]


def test_a_helper_of_another_cell_counts_with_the_lines_of_its_own(shell: Shell) -> None:
    shell.cell("import time\n\ndef stamp():\n    return time.time()")
    assert "`stamp`, line 4: time.time()" in shell.cell("%%durable_task\nasync def f(input, ctx):\n    return stamp()\n").text


def test_decorated_tasks_are_looked_at_too(shell: Shell) -> None:
    said = shell.cell("import time\n@durable.durable_task()\nasync def f(input, ctx):\n    time.sleep(0)\n").text
    assert "`f`, line 4: time.sleep() blocks the engine" in said


def test_a_restored_task_says_nothing_at_loading(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell(CELL)
    bare_shell.cell("%unload_ext durable_nb")
    assert "Note" not in bare_shell.load()
