"""Time travel: a run's history is replayed in a guarded process, and its suspended frames are read at every checkpoint."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.client import stepping
from durable_nb.client.stepping import Step, Steps
from durable_nb.errors import UnknownCheckpointError
from tests.notebook.helpers import Shell, wait_until

HEAD = """%%durable_task
import asyncio
from datetime import timedelta
from pydantic import BaseModel
class Row(BaseModel):
    a: int
async def pause(ctx, n):
    twice = n * 2
    await ctx.aio_sleep_for(timedelta(milliseconds=n))
    return twice
async def f(input: int, ctx):
"""


def ran(shell: Shell, body: str, *, head: str = HEAD) -> None:
    """Run a task with this body until it has ended or waits."""
    shell.cell(head + "".join(f"    {line}\n" for line in body.splitlines()))
    shell.cell("run = f.run(3, wait_for_result=False)")
    at_rest(shell)


def at_rest(shell: Shell) -> None:
    def is_at_rest() -> bool:
        details = shell.names["durable"].runs.get_details(shell.names["run"])
        return bool(details.run.is_ended or details.run.blocked_reason or [w for w in details.waits if w.kind == "event"])

    wait_until(is_at_rest, what="the run at rest")


def steps_of(shell: Shell, **given: Any) -> Steps:
    steps: Steps = shell.names["durable"].runs.step_through(shell.names["run"], **given)
    return steps


def said(step: Step) -> dict[str, str]:
    return {name: local.text for name, local in step.locals.items()}


def test_locals_are_those_at_each_checkpoint_with_what_has_changed(shell: Shell) -> None:
    ran(
        shell,
        "rows = [Row(a=n) for n in range(input)]\ntotal = 0\nfor row in rows:\n    total += await pause(ctx, row.a)",
    )
    steps = steps_of(shell)
    assert len(steps) == 4
    assert [step.locals["n"].text for step in steps[:3]] == ["0", "1", "2"], "the innermost function that asked"
    third = {frame.function: frame for frame in steps.at(3).frames}
    outer = {local.name: local for local in third["f"].locals}
    assert {name: local.text for name, local in outer.items()} == {
        "input": "3",
        "rows": "[Row(a=0), Row(a=1), Row(a=2)]",
        "total": "2",
        "row": "Row(a=2)",
    }
    assert [name for name, local in outer.items() if local.change] == ["total", "row"]
    assert (outer["rows"].type, outer["rows"].size) == ("list[Row]", "3")
    assert (third["f"].source, third["f"].line, third["pause"].source, third["pause"].line) == ("", 15, "pause", 9)
    assert (steps[-1].state, steps[-1].frames, steps[-1].reason) == ("returned", (), "")
    [(_, sources)] = steps.sources
    assert sources[0].text.startswith("async def f(")
    assert sources[0].first_line == 11


def test_each_asyncio_task_of_a_gather_has_its_frames(shell: Shell) -> None:
    ran(shell, "a, b = await asyncio.gather(pause(ctx, 20), pause(ctx, 5))\nawait ctx.aio_wait_for_event('never')")
    steps = steps_of(shell)
    assert [(frame.task, frame.function) for frame in steps.at(2).frames] == [(0, "f"), (1, "pause"), (2, "pause")]
    assert [said(steps.at(node)) for node in (1, 2, 3)] == [
        {"n": "20", "twice": "40"},
        {"n": "5", "twice": "10"},
        {"input": "3", "a": "40", "b": "10"},
    ]
    assert (steps[-1].state, steps[-1].line) == ("waits", 13)


def test_async_generators_on_the_way_are_seen(shell: Shell) -> None:
    body = "async def each():\n    for n in (7, 8):\n        yield await pause(ctx, n)\nasync for got in each():\n    pass"
    ran(shell, body)
    assert [frame.function.rpartition(".")[2] for frame in steps_of(shell).at(2).frames] == ["f", "each", "pause"]


def test_an_exception_leaves_the_locals_where_it_was_raised(shell: Shell) -> None:
    ran(shell, "price = await ctx.aio_memo(lambda: 7, int)\nraise ValueError(f'no {price}')")
    last = steps_of(shell)[-1]
    assert (last.state, last.line, said(last), last.reason) == ("raised", 13, {"input": "3", "price": "7"}, "")


def test_a_run_that_was_evicted_and_cancelled_is_walked_through_its_clean_up(shell: Shell) -> None:
    ran(shell, "try:\n    await ctx.aio_wait_for_event('go')\nfinally:\n    late = await ctx.aio_now()\n    await pause(ctx, 1)")
    durable, run = shell.names["durable"], shell.names["run"]
    assert durable.runs.evict(run)
    assert said(steps_of(shell).at(1)) == {"input": "3"}
    durable.runs.cancel(run)
    wait_until(lambda: durable.runs.get_status(run) == "CANCELLED", what="the end")
    steps = steps_of(shell)
    assert [step.recorded.kind for step in steps[:3]] == ["event", "now", "sleep"]
    assert "late" in {local.name for local in steps.at(3).frames[0].locals}
    assert steps[-1].state == "cancelled"


def test_every_branch_can_be_walked_and_compared(shell: Shell) -> None:
    ran(shell, "got = await ctx.aio_memo(lambda: __import__('random').random(), float)\nawait pause(ctx, 1)\nreturn got")
    durable, run = shell.names["durable"], shell.names["run"]
    durable.runs.reset_durable_task(run, 1)
    wait_until(lambda: durable.runs.get(run).branch == 2 and durable.runs.get(run).is_ended, what="the second branch")
    first, second = steps_of(shell, branch=1), steps_of(shell)
    assert [recorded.branch for steps in (first, second) if (recorded := steps.at(1).recorded)] == [1, 2]
    assert first.at(2).frames[0].locals[1].text != second.at(2).frames[0].locals[1].text
    comparison = durable.runs.compare(run, first_branch=1)
    assert (comparison.diverges_at, [row.kind for row in comparison.rows]) == (1, ["outcomes differ", "outcomes differ"])
    fork = durable.runs.fork(run, 1, override=0.5, branch_id=1)
    fork.result()
    assert [(one.node, one.branch) for one in durable.runs.family(run).forks] == [(1, 1)]
    origin = durable.runs.family(fork).origin
    assert origin is not None and origin.id == run.workflow_run_id
    assert durable.runs.step_through(fork).at(2).frames[0].locals[1].text == "0.5"
    with pytest.raises(UnknownCheckpointError, match="has no branch 9"):
        steps_of(shell, branch=9)


def test_a_history_that_was_continued_as_new_is_walked_with_its_own_input(shell: Shell) -> None:
    ran(shell, "await ctx.aio_now()\nif input:\n    ctx.continue_as_new(input - 1)")
    branches = shell.names["durable"].runs.family(shell.names["run"]).branches
    assert [steps_of(shell, branch=one.branch).at(1).locals["input"].text for one in branches] == ["3", "2", "1", "0"]


def test_each_checkpoint_is_shown_in_the_code_that_the_run_had_there(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    ran(shell, "before = await ctx.aio_now()\nawait ctx.aio_wait_for_event('go')\nreturn await ctx.aio_memo(lambda: 1, int)")
    body = "    after = await ctx.aio_now()\n    # a line more\n    await ctx.aio_wait_for_event('go')\n    await pause(ctx, 2)\n"
    cell = HEAD + body
    text = shell.cell(cell).text
    wait_until(lambda: "1 unfinished run goes on" in text + capfd.readouterr().out, what="the check of the edit")
    shell.cell("%emit go")
    wait_until(lambda: shell.names["durable"].runs.get(shell.names["run"]).is_ended, what="the end")
    steps = steps_of(shell)
    assert ["before" in steps.at(2).locals, "after" in steps.at(3).frames[0].locals[1].name] == [True, True]
    assert [step.version == steps[0].version for step in steps] == [True, True, False, False]
    assert len(steps.sources) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("open('out.txt', 'w')", "line 13 needs what a replay may not do (writes 'out.txt')"),
        ("__import__('socket').create_connection(('127.0.0.1', 9))", "line 13 needs what a replay may not do (socket."),
        ("__import__('time').sleep(60)", "did not go on after checkpoint 1 within 1 s"),
        ("await asyncio.sleep(60)", "line 13 awaits something that is not recorded"),
    ],
    ids=["writes", "socket", "blocks", "foreign"],
)
def test_code_that_must_not_be_repeated_ends_the_walk_there(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, why: str
) -> None:
    monkeypatch.setattr(stepping.Walk.__init__, "__kwdefaults__", {"patience": 1.0})
    ran(shell, "await ctx.aio_now()\nawait ctx.aio_now()")
    shell.cell(HEAD + f"    await ctx.aio_now()\n    {line}\n    await ctx.aio_now()\n")
    version = shell.names["f"].version  # the run is made one of this code, as if its first execution had done that
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        durable = shell.names["durable"]
        run_id, task, given = log.execute("SELECT id, task, input FROM run").fetchone()
        signature = durable.keyring.sign("run", durable.log_id, run_id, task, version, given)
        log.execute("UPDATE run SET version = ?, signature = ?", (version, signature))
    steps = steps_of(shell)
    assert said(steps.at(1)) == {"input": "3"}
    assert why in steps.at(2).reason
    assert not steps.at(2).frames
    assert why in steps[-1].reason
    assert not (folder / "out.txt").exists()


@pytest.mark.parametrize("table", ["definition", "run"])
def test_what_this_user_has_not_signed_is_shown_and_never_executed(shell: Shell, folder: Path, table: str) -> None:
    ran(shell, "await ctx.aio_now()\nreturn 1")
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        log.execute(f"UPDATE {table} SET signature = zeroblob(32)")
    steps = steps_of(shell)
    assert "does not carry your signature, so nothing is executed" in steps.at(1).reason
    recorded = steps.at(1).recorded
    assert not steps.at(1).frames
    assert recorded is not None
    assert recorded.outcome is not None
    assert steps.sources[0][1][0].text.startswith("async def f("), "the source is shown"


def test_locals_come_into_the_notebook_as_values(shell: Shell) -> None:
    ran(
        shell,
        "rows, lock, grid = [Row(a=1)], asyncio.Lock(), numpy.arange(3)\nawait pause(ctx, 1)",
        head=HEAD.replace("import asyncio", "import asyncio, numpy, pandas"),
    )
    durable, run = shell.names["durable"], shell.names["run"]
    assert durable.runs.locals_at(run, 1) == {"n": 1, "twice": 2}
    values, left_out = durable.runs.values_at(run, 1, frame=0)
    assert (values["rows"], values["grid"].tolist()) == ([{"a": 1}], [0, 1, 2])
    assert left_out["lock"] == "a Lock that has no form in JSON"


def test_a_thousand_checkpoints_are_walked_once_and_a_fan_out_is_one_stop(shell: Shell) -> None:
    ran(shell, "for n in range(300):\n    await ctx.aio_now()\nawait asyncio.gather(*(ctx.aio_now() for _ in range(700)))")
    steps = steps_of(shell)
    assert len(steps) == 1001
    assert [steps.at(node).frames[0].locals[1].text for node in (1, 150, 300, 1000)] == ["0", "149", "299", "299"]
    assert steps.at(301).frames is steps.at(1000).frames
    assert (len(steps.at(1000).frames), steps.at(1000).tasks_left_out) == (1, 689), "most of the asyncio tasks are only counted"


async def scripted(input: int, ctx: DurableContext) -> int:
    """What a script declares; the log keeps none of its code."""
    twice = input * 2
    await ctx.aio_now()
    return twice


def test_a_script_walks_with_the_functions_of_its_own_process(folder: Path) -> None:
    with Durable(folder / "script.db") as durable:
        task = durable.durable_task()(scripted)
        ref = task.run(4, wait_for_result=False)
        ref.result()
        assert said(durable.runs.step_through(ref).at(1)) == {"input": "4", "twice": "8"}
    with Durable(folder / "script.db") as durable:
        steps = durable.runs.step_through("#1")
        assert "neither in the log nor in this process" in steps.at(1).reason


def test_regular_tasks_and_workflows_say_why_there_is_nothing_to_replay(shell: Shell) -> None:
    shell.cell("@durable.task()\ndef once(input: int, ctx) -> int:\n    return 1")
    shell.cell("flow = durable.workflow(name='flow')\n@flow.task()\ndef part(input, ctx):\n    return {'a': 1}")
    shell.cell("once.run(1)\nflow.run({})")
    durable = shell.names["durable"]
    assert durable.runs.step_through("#1")[-1].reason.startswith("A regular task has no checkpoints")
    steps = durable.runs.step_through("#2")
    assert steps.at(2).reason.startswith("A workflow has no function of its own")
    assert steps.at(2).recorded.outcome is not None
