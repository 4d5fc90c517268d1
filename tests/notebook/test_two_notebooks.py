"""Two notebooks, or a notebook and a script, on one log: each runs the tasks that it knows, and hears of the other at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import pytest

from durable_nb import Context, Durable
from tests.notebook.helpers import Kernel, wait_until

pytestmark = pytest.mark.slow

WAITER = (
    "%%durable_task\nimport time\nasync def waiter(input: int, ctx) -> float:\n"
    "    got = await ctx.aio_wait_for_event(f'go:{input}')\n    return time.time() - got['at']\n"
)
PARENT = (
    "%%durable_task\nasync def parent(input: int, ctx) -> list:\n"
    "    return [await local.aio_run(input), (await ctx.aio_wait_for_event('answer'))['by']]\n"
)


@pytest.fixture
def second(folder: Path) -> Iterator[Kernel]:
    """Another notebook's kernel."""
    kernel = Kernel(
        folder, environment={"JPY_SESSION_NAME": str(folder / "b.ipynb"), "DURABLE_NB_LOG": str(folder / "durable.db")}
    )
    yield kernel
    kernel.shut_down(now=True)


def test_an_event_of_one_is_seen_in_the_other_at_once_and_each_runs_its_own(kernel: Kernel, second: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    second.cell("%load_ext durable_nb")
    kernel.cell(WAITER)
    second.cell("%%task\ndef elsewhere(input: int, ctx) -> int:\n    import os\n    return os.getpid()\n")
    kernel.cell("refs = waiter.run_many([waiter.create_bulk_run_item(n) for n in range(15)], wait_for_result=False)")
    second.cell("import time")
    for number in range(15):
        pushed = f"durable.event.push('go:{number}', {{'at': time.time()}}).matched_runs"
        wait_until(lambda pushed=pushed: second.cell(pushed).results[0]["text/plain"] != "[]", what="the wait")  # type: ignore[misc]
    took = eval(kernel.cell("[ref.result() for ref in refs]").results[0]["text/plain"])
    assert median(took) < 0.1, took
    pid = second.cell("import os; os.getpid()").results[0]["text/plain"]
    assert second.cell("await elsewhere.aio_run(1)").results[0]["text/plain"] == pid
    assert "No task 'elsewhere'" in kernel.try_cell("%durable run elsewhere 1").text + str(
        kernel.try_cell("%durable run elsewhere 1")
    )
    second.kill()
    assert kernel.cell("%durable run waiter 99 --key last\n%durable runs --limit 1").status == "ok"


def test_a_script_and_a_notebook_work_on_one_log(kernel: Kernel, folder: Path) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell("%%task\ndef local(input: int, ctx) -> int:\n    return 2 * input\n")
    kernel.cell(PARENT)
    kernel.cell("%durable run parent 4 --key first")
    script = Durable(folder / "durable.db")

    @script.task(on_events=["order:*"])
    def by_script(input: dict[str, int], ctx: Context) -> int:
        return input["n"]

    with script:
        wait_until(lambda: script.event.push("answer", {"by": "script"}).matched_runs, what="the wait")
        assert script.runs.get_result("first") == [8, "script"]
        wait_until(lambda: "started 1 run" in kernel.cell('%emit order:1 {"n": 5}').text, what="the listener")
        wait_until(lambda: script.runs.list(task="by_script", status="COMPLETED"), what="the script's run")


def test_they_may_give_one_name_to_different_tasks(kernel: Kernel, second: Kernel, folder: Path) -> None:
    for notebook, said in ((kernel, "first"), (second, "second")):
        notebook.cell("%load_ext durable_nb")
        notebook.cell(
            "%%durable_task\nasync def same(input: int, ctx) -> str:\n"
            f"    await ctx.aio_now()\n    await ctx.aio_wait_for_event('go:{said}')\n    return '{said}'\n"
        )
        notebook.cell(f"%durable run same 1 --key {said}")
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        wait_until(lambda: log.execute("SELECT count(*) FROM wait").fetchone() == (2,), what="the waits")
    kernel.kill()
    wait_until(lambda: second.cell("durable.runs.get('first').owner is None").results[0]["text/plain"] == "True", what="its end")
    second.cell("durable.event.push('go:first'); durable.event.push('go:second')")
    assert second.cell("durable.runs.get_result('second')").results[0]["text/plain"] == "'second'"
    state = "durable.runs.get('first').status, durable.runs.get('first').blocked_reason"
    assert second.cell(state).results[0]["text/plain"] == "('RUNNING', None)"
    kernel.start()
    kernel.cell("%load_ext durable_nb")
    assert kernel.cell("durable.runs.get_result('first')").results[0]["text/plain"] == "'first'"
