"""A task that blocks the engine is named with its line, once; shutting down and restarting a kernel hands its runs over."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.notebook.helpers import Kernel, wait_until

pytestmark = pytest.mark.slow

BLOCKER = """%%task
import time

def work():
    time.sleep(2.5)

async def blocker(input, ctx):
    work()
    return "done"
"""
IDLE = "%%durable_task\nasync def idle(input, ctx):\n    return await ctx.aio_wait_for_event('go')\n"


def test_a_blocking_task_is_named_once_with_its_line_and_loses_nothing(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(BLOCKER)
    reply = kernel.cell("%durable run blocker --wait")
    assert reply.results[0]["text/plain"] == "'done'"
    assert reply.text.count("has blocked the engine for 1.") == 1
    assert "Task 'blocker' has blocked the engine" in reply.text
    assert "on line 5 (`time.sleep(2.5)`)" in reply.text
    again = kernel.cell("%durable run blocker --wait")
    assert again.text.count("has blocked the engine") == 1, "each occurrence is told"


def test_a_cell_goes_on_while_a_task_blocks_and_a_task_while_a_cell_does(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(BLOCKER)
    kernel.cell("handle = %durable run blocker")
    began = time.monotonic()
    assert kernel.cell("print(6 * 7)").text.strip().endswith("42")
    assert time.monotonic() - began < 1.5


def test_threads_and_waiting_tasks_are_not_named(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell("%%task\nimport time\ndef thread(input, ctx):\n    time.sleep(1.5)\n")
    kernel.cell(IDLE)
    kernel.cell("%durable run idle")
    assert "blocked" not in kernel.cell("%durable run thread --wait").text


def test_a_restarted_kernel_hands_its_runs_over(kernel: Kernel, folder: Path) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(IDLE)
    kernel.cell("%durable run idle")
    shown = "%durable show #1"
    wait_until(lambda: "◌ waits" in kernel.cell(shown).results[0]["text/plain"], what="the wait")
    kernel.restart()
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        reasons = [json.loads(data)["reason"] for (data,) in log.execute("SELECT data FROM journal WHERE kind = 'released'")]
        assert reasons == ["its engine was closed"], "it was given back, not taken from a dead worker"
    assert "1 run goes on" in kernel.cell("%load_ext durable_nb").text
    kernel.cell("%emit go")
    assert kernel.cell("durable.runs.get_run_ref('#1').result()").results[0]["text/plain"] == "{}"
