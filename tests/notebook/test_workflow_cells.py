"""`%%workflow`: a cell's functions are the tasks of one workflow, kept with the log as every task is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_nb.client import Durable
from durable_nb.tasks.task import Task
from durable_nb.tasks.workflow import Workflow
from tests.notebook.helpers import Shell, wait_until

ETL = """%%workflow etl --priority 2 --metadata {"team": "a"}
from durable_nb import *
FACTOR = 3
def helper(value):
    return value * FACTOR
def extract(input: int, ctx) -> int:
    return helper(input)
@task(parents=[extract], wait_for=UserEventCondition("go"))
def load(input: int, ctx) -> int:
    return ctx.task_output(extract) + 1
@etl.task(parents=[extract], skip_if=ParentCondition(extract, "output > 1"))
def tiny(input: int, ctx) -> int:
    return 0
@on_success_task()
async def total(input: int, ctx: Context) -> int:
    return ctx.task_output(load)
"""
RESULT = {"extract": 6, "load": 7, "tiny": {"skipped": True}, "total": 7}


def app(shell: Shell) -> Durable:
    durable: Durable = shell.names["durable"]
    return durable


def waits(shell: Shell, run: str = "#1") -> None:
    wait_until(lambda: "waits for `go`" in shell.cell(f"%durable show {run}").text, what="the wait")


def again(shell: Shell) -> None:
    """As a kernel's restart: another session, without the cells and their names."""
    shell.cell("%unload_ext durable_nb")
    shell.cell("%reset -f")
    shell.load()


def test_a_cell_becomes_a_workflow_and_its_helpers_stay_names(shell: Shell) -> None:
    shell.names["task"] = "mine"
    shell.cell(ETL)
    etl = shell.names["etl"]
    assert isinstance(etl, Workflow)
    assert (etl.options.default_priority, list(etl.tasks)) == (2, ["extract", "load", "tiny", "total"])
    assert shell.names["helper"](2) == 6
    assert shell.names["task"] == "mine", "the decorators are lent for the cell only"
    assert "on_success_task" not in shell.names
    run = shell.cell("%durable run etl 2").result
    waits(shell)
    shell.cell("%durable emit go")
    assert run.result() == RESULT


def test_it_goes_on_after_a_restart_without_its_cell(shell: Shell) -> None:
    shell.cell(ETL)
    shell.cell("%durable run etl 2 --key first")
    waits(shell)
    again(shell)
    assert isinstance(shell.names["etl"], Workflow)
    shell.cell("%durable emit go")
    assert shell.cell("durable.runs.get_result('first')").result == RESULT
    assert shell.cell("%durable run etl 0").result.status in ("QUEUED", "RUNNING"), "and new runs start"


def test_decorated_workflows_are_kept_too_and_so_is_their_type(shell: Shell) -> None:
    shell.cell(
        "from pydantic import BaseModel\nfrom durable_nb import *\nclass Order(BaseModel):\n    n: int\n"
        "shop = durable.workflow('shop', input_validator=Order)\n"
        "@shop.task()\ndef price(input: Order, ctx: Context) -> int:\n    return input.n * 2\n"
    )
    shell.cell(
        "@shop.durable_task(parents=[price])\nasync def pay(input: Order, ctx: DurableContext) -> int:\n"
        "    await ctx.aio_wait_for_event('go')\n    return ctx.task_output(price)\n"
    )
    shell.cell('%durable run shop {"n": 4} --key first')
    wait_until(lambda: app(shell).runs.list(task="shop:pay", include_children=True, status="RUNNING"), what="pay")
    again(shell)
    shell.cell("%durable emit go")
    wait_until(lambda: shell.cell("%durable emit go").result.matched_runs or app(shell).runs.get("first").is_ended, what="go")
    assert shell.cell("durable.runs.get_result('first')").result == {"price": 8, "pay": 8}
    assert "n" in shell.usage_error('%durable run shop {"n": "many"}')


def test_a_run_keeps_its_shape_when_the_cell_gets_another_also_over_a_restart(shell: Shell) -> None:
    shell.cell(ETL)
    shell.cell("%durable run etl 2 --key first")
    waits(shell)
    shell.cell(ETL.replace('wait_for=UserEventCondition("go")', "").replace("extract) + 1", "extract) + 100"))
    assert shell.cell("%durable run etl 2 --wait").result == {**RESULT, "load": 106, "total": 106}
    again(shell)
    waits(shell, "first")
    shell.cell("%durable emit go")
    assert shell.cell("durable.runs.get_result('first')").result["load"] in (7, 106)
    assert app(shell).runs.get("first").blocked_reason is None


def test_a_task_that_cannot_be_kept_is_named_and_the_workflow_waits_for_its_cell(shell: Shell) -> None:
    shell.cell("import io\nfile = io.StringIO('text')")
    cell = "%%workflow flow\ndef read(input, ctx):\n    return file.getvalue()\n"
    assert "`file` (io.StringIO), which `read` uses on line 3, cannot be kept" in shell.cell(cell).text
    assert shell.cell("%durable run flow --wait").result == {"read": "text"}
    again(shell)
    assert "flow" not in shell.names
    assert "flow is not restored: `file`" in shell.cell("%durable status").text


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%%workflow\ndef a(input, ctx): ...", "The following arguments are required: NAME: write `%%workflow NAME"),
        ("%%workflow my-flow\ndef a(input, ctx): ...", "my-flow cannot name a workflow here"),
        ("%%workflow class\ndef a(input, ctx): ...", "class cannot name a workflow here"),
        ("%%workflow durable\ndef a(input, ctx): ...", "durable cannot name a workflow here"),
        ("%%workflow f\nx = 1", "The cell defines no task: write each as `def NAME(input, ctx)` in it."),
        ("%%workflow f\ndef helper(x): ...", "The cell defines no task"),
        ("%%workflow f\ndef f(input, ctx): ...", "f is the workflow and one of its functions"),
        ("%%workflow f\n@task\ndef a(input, ctx): ...", "@f.task is written with parentheses: `@f.task()`."),
        ("%%workflow f\n@task(parents=[print])\ndef a(input, ctx): ...", "is no task of workflow 'f'"),
        ("%%workflow f\n@task(skip_if=\"x\")\ndef a(input, ctx): ...", "skip_if of task 'a'"),
        ("%%workflow f\n@task()\ndef a(input): ...", "a takes (input)"),
        ("%%workflow f\n@on_failure_task()\ndef a(input, ctx): ...", "Workflow 'f' has no tasks"),
        ("%%workflow f --execution-timeout 3s\ndef a(input, ctx): ...", "Unrecognized arguments: --execution-timeout"),
        ("%%workflow f --concurrency 0\ndef a(input, ctx): ...", "max_runs=0"),
        ("%%workflow f\ndef a(input, ctx): ...\nawait a(1, 2)", "awaits outside a function, on line 3"),
    ],
)  # fmt: skip
def test_a_cell_that_defines_no_workflow_says_why_and_leaves_nothing(
    shell: Shell, folder: Path, cell: str, sentence: str
) -> None:
    assert sentence in shell.usage_error(cell)
    assert not {"a", "f", "task", "on_failure_task"} & set(shell.names)
    assert list(app(shell).tasks) == []
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        assert log.execute("SELECT * FROM definition").fetchall() == []


def test_a_cell_that_fails_keeps_the_workflow_that_was_there(shell: Shell) -> None:
    shell.cell(ETL)
    names: dict[str, Any] = {name: shell.names[name] for name in ("etl", "extract", "load")}
    assert isinstance(shell.try_cell(ETL + "1 / 0\n").error, ZeroDivisionError)
    assert all(shell.names[name] is value for name, value in names.items())
    assert all(isinstance(task, Task) for task in app(shell).tasks)
    run = shell.cell("%durable run etl 2").result
    waits(shell)
    shell.cell("%durable emit go")
    assert run.result() == RESULT
