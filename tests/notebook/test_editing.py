"""Running a changed cell: unfinished runs that replay go on with the new code, others keep theirs, and the cell says which."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb import open_bundle
from tests.notebook.helpers import Shell, wait_until

TASK = """%%durable_task
from datetime import timedelta
async def f(input: int, ctx) -> str:
    await ctx.aio_now()
    await ctx.aio_wait_for_event('go')
    return 'old'
"""


def waits(shell: Shell, run: str = "#1") -> None:
    wait_until(lambda: "◌ waits" in shell.cell(f"%durable show {run}").text, what="the wait")


def edit(shell: Shell, cell: str, capfd: pytest.CaptureFixture[str]) -> str:
    """Run a changed cell; give the report of its check."""
    capfd.readouterr()
    said = shell.cell(cell).text

    def report() -> str:
        nonlocal said
        said += capfd.readouterr().out
        return said if "with it." in said or "The check failed" in said else ""

    return wait_until(report, what="the report").partition("has new code")[2]


def result(shell: Shell, run: str = "#1") -> object:
    return shell.cell(f"durable.runs.get_run_ref({run!r}).result()").result


@pytest.fixture
def waiting(shell: Shell) -> Shell:
    shell.cell(TASK)
    shell.cell("%durable run f 1")
    waits(shell)
    return shell


def test_a_run_whose_history_replays_goes_on_with_the_new_code(waiting: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    said = edit(waiting, TASK.replace("'old'", "'new'"), capfd)
    assert "1 unfinished run goes on with it." in said
    assert "What stands before it has run already, and is not run again: line 5 (1 run)." in said
    waiting.cell("%emit go")
    assert result(waiting) == "new"


def test_a_fork_that_does_not_replay_with_the_new_code_has_the_code_before(
    waiting: Shell, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(waiting, TASK.replace("aio_now()", "aio_memo(lambda: 1, int)").replace("'old'", "'new'"), capfd)
    fork = waiting.cell("%durable fork #1 --node 2").result  # it shares the checkpoint that the new code does not ask
    waits(waiting, fork.id)
    waiting.cell("%emit go")
    assert result(waiting, fork.id) == "old"
    assert result(waiting) == "old"


def test_a_run_that_diverges_keeps_its_code_and_the_cell_says_where(waiting: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    changed = TASK.replace("    await ctx.aio_now()\n", "    # a comment\n    await ctx.aio_sleep_for(timedelta(seconds=5))\n")
    said = " ".join(edit(waiting, changed.replace("'old'", "'new'"), capfd).split())
    assert "0 unfinished runs go on with it." in said
    assert "keeps the code before: diverges at checkpoint 1: recorded now at line 4, new code asks sleep 5s (line 5)." in said
    run = waiting.cell("durable.runs.get('#1').id").result
    assert f"to have it in the new code: %durable fork {run} --node 1" in said
    assert f"or to end it: %durable cancel {run}" in said
    fork = waiting.cell(f"%durable fork {run} --node 1").result
    wait_until(lambda: "sleep 5s" in waiting.cell(f"%durable show {fork.id}").text, what="the fork in the new code")
    waiting.cell(f"%durable cancel {fork.id}")
    waiting.cell("%emit go")
    assert result(waiting) == "old"
    second = waiting.cell("%durable run f 2").result
    wait_until(lambda: "sleep 5s" in waiting.cell(f"%durable show {second.id}").text, what="a new run with the new code")


def test_runs_that_diverge_alike_are_told_together(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    shell.cell(TASK)
    shell.cell("refs = f.run_many([f.create_bulk_run_item(n) for n in range(7)], wait_for_result=False)")
    for number in range(1, 8):
        waits(shell, f"#{number}")
    said = " ".join(edit(shell, TASK.replace("aio_now()", "aio_memo(lambda: 1, int)"), capfd).split())
    assert "7 runs (" in said
    assert ", …) keep the code before: diverges at checkpoint 1: recorded now at line 4, new code asks memo" in said


def test_a_run_keeps_its_code_over_a_restart_of_the_engine_and_of_the_notebook(
    waiting: Shell, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(waiting, TASK.replace("aio_now()", "aio_memo(lambda: 1, int)").replace("'old'", "'new'"), capfd)
    waiting.cell("%unload_ext durable_nb")
    waiting.load()
    waits(waiting)
    waiting.cell("%emit go")
    assert result(waiting) == "old"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("    await ctx.aio_now()\n", "", "diverges at checkpoint 1: recorded now at line 4, new code asks event go (line 4)"),
        (
            "    await ctx.aio_wait_for_event('go')\n",
            "    await ctx.aio_wait_for_event('stop')\n",
            "diverges at checkpoint 2: recorded event go at line 5, new code asks event stop (line 5)",
        ),
        ("    await ctx.aio_wait_for_event('go')\n", "", "checkpoint 2: recorded event go at line 5, new code asks nothing more"),
        ("    await ctx.aio_now()\n", "    1 / 0\n", "the replay fails with ZeroDivisionError: division by zero on line 4"),
        (
            "    await ctx.aio_now()\n",
            "    open('out.txt', 'w')\n    await ctx.aio_now()\n",
            "cannot be checked: line 4 needs what a check may not do (writes 'out.txt')",
        ),
        (
            "    await ctx.aio_now()\n",
            "    import subprocess\n    subprocess.run(['true'])\n    await ctx.aio_now()\n",
            "cannot be checked: line 5 needs what a check may not do (subprocess.Popen)",
        ),
        (
            "    await ctx.aio_now()\n",
            "    import socket\n    socket.create_connection(('127.0.0.1', 9))\n    await ctx.aio_now()\n",
            "cannot be checked: line 5 needs what a check may not do (socket.",
        ),
        (
            "    await ctx.aio_now()\n",
            "    import asyncio\n    await asyncio.sleep(60)\n    await ctx.aio_now()\n",
            "cannot be checked: line 5 awaits something that is not recorded",
        ),
        (
            "    await ctx.aio_now()\n",
            "    while True: pass\n    await ctx.aio_now()\n",
            "cannot be checked: its replay did not end within 2 s, or ended its process",
        ),
        (
            "    await ctx.aio_now()\n",
            "    __import__('os')._exit(3)\n",
            "its replay did not end within 2 s, or ended its process",
        ),
        ("    await ctx.aio_now()\n", "    bytearray(6 * 2**30)\n", "the replay fails with MemoryError: on line 4"),
        ("    await ctx.aio_now()\n", "    raise SystemExit(3)\n", "the replay fails with SystemExit: 3 on line 4"),
        (
            "    await ctx.aio_now()\n",
            "    try: open('out.txt', 'w')\n    except BaseException: pass\n    await ctx.aio_now()\n",
            "needs what a check may not do (writes 'out.txt')",
        ),
    ],
    ids=[
        "less",
        "other",
        "end",
        "fails",
        "writes",
        "process",
        "socket",
        "foreign",
        "endless",
        "exits",
        "memory",
        "SystemExit",
        "swallowed",
    ],
)
def test_what_does_not_replay_is_told_with_its_reason_and_keeps_its_code(
    waiting: Shell, capfd: pytest.CaptureFixture[str], folder: Path, before: str, after: str, why: str
) -> None:
    assert why in " ".join(edit(waiting, TASK.replace(before, after).replace("'old'", "'new'"), capfd).split())
    assert not (folder / "out.txt").exists()
    waiting.cell("%emit go")
    assert result(waiting) == "old"


def test_what_comes_after_the_history_may_be_anything_and_is_not_executed(
    waiting: Shell, capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    changed = TASK.replace("    return 'old'", "    await ctx.aio_memo(lambda: open('memo.txt', 'w').close())\n    return 'new'")
    assert "1 unfinished run goes on with it." in edit(waiting, changed, capfd)
    assert not (folder / "memo.txt").exists()
    waiting.cell("%emit go")
    assert result(waiting) == "new"
    assert (folder / "memo.txt").exists()


TORN = TASK.replace(
    "    await ctx.aio_now()\n",
    "    await (ctx.aio_memo(lambda: 1, int) if __import__('os').path.exists('flag') else ctx.aio_now())\n",
)


@pytest.mark.parametrize("restarts", [False, True], ids=["same kernel", "after a restart"])
def test_a_run_that_diverges_only_when_it_is_entered_falls_back_to_the_code_before(
    waiting: Shell, capfd: pytest.CaptureFixture[str], folder: Path, restarts: bool
) -> None:
    assert "1 unfinished run goes on with it." in edit(waiting, TORN.replace("'old'", "'new'"), capfd)
    (folder / "flag").touch()  # what the check could not know
    if restarts:
        waiting.cell("%unload_ext durable_nb")
        waiting.load()
        waits(waiting)
    waiting.cell("%emit go")
    assert result(waiting) == "old"
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        kinds = [kind for (kind,) in log.execute("SELECT kind FROM journal WHERE run = 1 AND kind IN ('moved', 'blocked')")]
    assert kinds == ["moved", "moved"]


def test_a_run_that_was_given_new_code_and_has_asked_more_is_parked_when_it_diverges(
    waiting: Shell, capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    more = TORN.replace("    return 'old'", "    await ctx.aio_wait_for_event('more')\n    return 'new'")
    assert "1 unfinished run goes on with it." in edit(waiting, more, capfd)
    waiting.cell("%emit go")
    wait_until(lambda: "waits for `more`" in waiting.cell("%durable show #1").text, what="the second wait")
    (folder / "flag").touch()
    waiting.cell("%unload_ext durable_nb")
    waiting.load()
    wait_until(lambda: "⏸ parked" in waiting.cell("%durable show #1").text, what="the parking")
    assert "It diverged" in waiting.cell("%durable show #1").text
    (folder / "flag").unlink()
    waiting.cell("%durable retake #1")
    wait_until(lambda: "waits for `more`" in waiting.cell("%durable show #1").text, what="the second wait")
    waiting.cell("%emit more")
    assert result(waiting) == "new"


def test_layout_and_comments_are_no_edit(waiting: Shell) -> None:
    assert "has new code" not in waiting.cell(TASK.replace("    return", "    # why\n    return")).text


def test_children_with_models_replay(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    shell.cell("from pydantic import BaseModel\nclass Part(BaseModel):\n    n: int\n    unit: str = 'kg'\n")
    shell.cell("%%task\ndef part(input: Part, ctx) -> Part:\n    return input\n")
    parent = (
        "%%durable_task\nasync def parent(input: int, ctx) -> str:\n"
        "    parts = await part.aio_run_many([part.create_bulk_run_item(Part(n=n)) for n in range(input)])\n"
        "    total = sum(p.n for p in parts)\n    await ctx.aio_wait_for_event('go')\n    return f'old {total}'\n"
    )
    shell.cell(parent)
    shell.cell("%durable run parent 4")
    waits(shell)
    assert "1 unfinished run goes on with it." in edit(shell, parent.replace("old", "new"), capfd)
    shell.cell("%emit go")
    assert result(shell) == "new 6"


HELPER = "def word():\n    return 'old'\n"
USER = """%%durable_task
async def f(input, ctx):
    await ctx.aio_wait_for_event(event())
    return word()
def event():
    return 'go'
"""


def test_an_edited_helper_cell_counts_too(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    shell.cell(HELPER)
    shell.cell(USER)
    version = shell.cell("%durable run f\nf.version").result
    waits(shell)
    assert "has new code" not in shell.cell(HELPER + "# the same").text
    assert "1 unfinished run goes on with it." in edit(shell, HELPER.replace("old", "new"), capfd)
    assert shell.cell("f.version").result != version, "the name is the new task"
    shell.cell("%emit go")
    assert result(shell) == "new"


def test_an_edited_helper_that_asks_otherwise_leaves_the_run_its_own(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    shell.cell(HELPER)
    shell.cell(USER)
    shell.cell("%durable run f")
    waits(shell)
    said = edit(shell, "def event():\n    return 'stop'\n", capfd)
    assert "recorded event go" in said
    assert "new code asks event stop" in " ".join(said.split())
    shell.cell("%emit go")
    assert result(shell) == "old"


def test_a_helper_without_unfinished_runs_is_a_note(shell: Shell) -> None:
    shell.cell(HELPER)
    shell.cell(USER)
    assert shell.cell(HELPER.replace("old", "new")).text == "f uses the new word from now on.\n"


def test_the_run_stays_signed(waiting: Shell, capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    edit(waiting, TASK.replace("'old'", "'new'"), capfd)
    waiting.cell("%unload_ext durable_nb")
    waiting.load()
    waits(waiting)
    waiting.cell("%emit go")
    assert result(waiting) == "new"
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        [(data,)] = log.execute("SELECT data FROM journal WHERE kind = 'moved'").fetchall()
    assert set(json.loads(data)) == {"version", "from", "signature"}


def test_a_cell_that_is_edited_twice_at_once_ends_with_the_last(waiting: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    waiting.cell(TASK.replace("'old'", "'second'"))
    assert "1 unfinished run goes on with it." in edit(waiting, TASK.replace("'old'", "'third'"), capfd)
    waiting.cell("%emit go")
    assert result(waiting) == "third"


def test_an_edited_regular_task_takes_its_waiting_runs_along(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    cell = "%%task --retries 1 --backoff-factor 2\ndef f(input, ctx):\n    raise ValueError('broken')\n"
    shell.cell(cell)
    shell.cell("%durable run f")
    wait_until(lambda: shell.cell("durable.runs.get('#1').retry_count").result, what="the first failure")
    assert "1 unfinished run goes on with it." in edit(
        shell, cell.replace("raise ValueError('broken')", "return 'mended'"), capfd
    )
    assert result(shell) == "mended"


@pytest.mark.slow
def test_a_thousand_short_histories_are_checked_in_a_few_seconds(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    shell.cell(TASK)
    shell.cell("refs = f.run_many([f.create_bulk_run_item(n) for n in range(1000)], wait_for_result=False)")
    count = "SELECT count(*) FROM wait WHERE key = 'go'"
    read = f"durable.call(lambda: durable.engine.reader.run(lambda c: c.execute({count!r}).fetchone()[0]), aio='')"
    wait_until(lambda: shell.cell(read).result == 1000, what="the waits")
    began = time.monotonic()
    said = edit(shell, TASK.replace("'old'", "'new'"), capfd)
    assert "1000 unfinished runs go on with it." in said
    assert time.monotonic() - began < 15, "five seconds on a machine that does nothing else"


FLOW = """%%workflow shop
def price(input, ctx) -> int:
    return 4
@durable_task(parents=[price])
async def pay(input, ctx) -> str:
    seen = [ctx.task_output(price), ctx.was_skipped(price), ctx.task_run_errors, bool(ctx.workflow_run_id)]
    await ctx.aio_wait_for_event(f'go:{seen}')
    return 'old'
"""


def test_the_tasks_of_a_workflow_replay_with_what_the_others_gave(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    shell.cell(FLOW)
    shell.cell("%durable run shop 1")
    pay = wait_until(
        lambda: shell.cell("[run.id for run in durable.runs.list(task='shop:pay', include_children=True)]").result, what="pay"
    )[0]
    waits(shell, pay)
    said = " ".join(edit(shell, FLOW.replace("seen}", "[8]}").replace("'old'", "'other'"), capfd).split())
    assert "0 unfinished runs go on with it." in said
    assert "diverges at checkpoint 1: recorded event go:[4, False, {}, True]" in said
    assert "1 unfinished run goes on with it." in edit(shell, FLOW.replace("'old'", "'new'"), capfd)
    shell.cell("durable.event.push('go:[4, False, {}, True]')")
    assert result(shell) == {"price": 4, "pay": "new"}
    steps = shell.cell(f"durable.runs.step_through('{pay}')").result
    assert steps[0].locals["seen"].text == "[4, False, {}, True]"
    bundle = shell.cell("durable.runs.bundle('#1', 'shop.bundle')").result
    verdicts = open_bundle(bundle).replay()
    assert [verdict.kind for verdict in verdicts] == ["not checkable", "goes on"]
    assert verdicts[0].reason == "a workflow has no code of its own; each of its durable tasks is judged"
