"""In a real kernel: interrupt, kill, restart. Real time and processes, so all of it is slow."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.notebook.helpers import Kernel, wait_until

pytestmark = pytest.mark.slow

CHILD = """%%task
def double(input: int, ctx) -> int:
    with open("executed.txt", "a") as file:
        file.write(f"{input}\\n")
    return 2 * input
"""

PARENT = """%%durable_task
from datetime import timedelta

async def total(input: dict, ctx) -> int:
    parts = await double.aio_run_many([double.create_bulk_run_item(number) for number in range(input["n"])])
    answer = await ctx.aio_wait_for_event("approve", "input.by == 'ann'")
    await ctx.aio_sleep_for(timedelta(milliseconds=50))
    return sum(parts) + answer["extra"]
"""


def define(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(CHILD)
    kernel.cell(PARENT)


def executed(folder: Path) -> list[int]:
    path = folder / "executed.txt"
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def status_of(kernel: Kernel, run: str = "#1") -> str:
    return kernel.cell(f"print(durable.runs.get({run!r}).status)").text.strip()


WATCH = """
import sys, threading
from traceback import walk_stack

def watch(name, main=threading.main_thread().ident):
    while name not in [frame.f_code.co_name for frame, _ in walk_stack(sys._current_frames()[main])]:
        threading.Event().wait(0.01)
    print("waits", flush=True)
"""


def wait_for_approval(kernel: Kernel) -> None:
    wait_until(lambda: "waits for `approve`" in kernel.cell("%durable runs").results[0]["text/plain"], what="the wait")


def test_a_run_in_a_cell(kernel: Kernel, folder: Path) -> None:
    define(kernel)
    view, picture = kernel.cell('handle = %durable run total {"n": 3}\nhandle').results
    assert "application/vnd.jupyter.widget-view+json" in view
    assert "total" in picture["text/plain"]
    assert picture["image/svg+xml"].startswith("<svg")
    wait_for_approval(kernel)
    assert "reached 1 run" in kernel.cell('%durable emit approve {"by": "ann", "extra": 10}').text
    assert kernel.cell("await handle").results[0]["text/plain"] == "16"
    assert executed(folder) == [0, 1, 2]


def test_interrupting_an_await_stops_the_waiting_and_never_the_run(kernel: Kernel) -> None:
    define(kernel)
    kernel.cell('handle = %durable run total {"n": 1}')
    wait_for_approval(kernel)
    sent = kernel.send("print('begin', flush=True)\nawait handle")
    kernel.reply_to(sent, until="begin")
    began = time.monotonic()
    kernel.interrupt()
    reply = kernel.reply_to(sent)
    assert time.monotonic() - began < 2.0
    assert reply.status == "error"
    assert "goes on: `%durable show" in reply.text
    assert status_of(kernel) == "RUNNING"
    kernel.cell('%emit approve {"by": "ann", "extra": 5}')
    assert kernel.cell("await handle").results[0]["text/plain"] == "5"


def test_interrupting_a_result_stops_the_waiting_and_never_the_run(kernel: Kernel) -> None:
    define(kernel)
    kernel.cell('handle = %durable run total {"n": 1}')
    kernel.cell(WATCH)
    sent = kernel.send("threading.Thread(target=watch, args=['call']).start()\nhandle.result()")
    kernel.reply_to(sent, until="waits")
    kernel.interrupt()
    reply = kernel.reply_to(sent)
    assert reply.errors
    assert reply.errors[0].startswith("KeyboardInterrupt")
    assert "goes on" in reply.text
    assert status_of(kernel) == "RUNNING"


def test_a_killed_kernel_loses_nothing_and_needs_no_cell_again(kernel: Kernel, folder: Path) -> None:
    define(kernel)
    kernel.cell('handle = %durable run total {"n": 20}')
    wait_for_approval(kernel)
    kernel.kill()
    kernel.start()
    said = kernel.cell("%load_ext durable_nb").text
    assert "1 run goes on, 1 waits for an event, none lacks its definition" in said
    wait_for_approval(kernel)
    assert "reached 1 run" in kernel.cell('%emit approve {"by": "ann", "extra": 0}').text
    assert kernel.cell("await durable.runs.get_run_ref('#1')").results[0]["text/plain"] == "380"
    assert executed(folder) == list(range(20)), "a child whose output was recorded is not executed again"
    assert kernel.cell("await double.aio_run(21)").results[0]["text/plain"] == "42", "restored tasks are ordinary names"


def test_an_event_accepted_before_the_kill_is_not_lost(kernel: Kernel) -> None:
    define(kernel)
    kernel.cell('handle = %durable run total {"n": 2}')
    wait_for_approval(kernel)
    kernel.cell('%emit approve {"by": "ann", "extra": 1}')
    kernel.kill()
    kernel.start()
    kernel.cell("%load_ext durable_nb")
    assert kernel.cell("await durable.runs.get_run_ref('#1')").results[0]["text/plain"] == "3"


def test_a_blocking_cell_stops_no_timer(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(
        "%%durable_task\nimport time\nfrom datetime import timedelta\n"
        "async def nap(input, ctx):\n    await ctx.aio_sleep_for(timedelta(milliseconds=300))\n"
    )
    kernel.cell("handle = %durable run nap\nimport time; time.sleep(2)")
    reply = kernel.cell("view = durable.runs.get(handle.id); print(view.status, view.finished_at - view.created_at)")
    status, seconds = reply.text.split()
    assert status == "COMPLETED"
    assert 0.3 <= float(seconds) < 1.5


def test_a_shut_down_kernel_gives_its_runs_back(kernel: Kernel, folder: Path) -> None:
    import contextlib
    import sqlite3

    define(kernel)
    kernel.cell('handle = %durable run total {"n": 2}')
    wait_for_approval(kernel)
    began = time.monotonic()
    kernel.shut_down()
    assert time.monotonic() - began < 5.0
    with contextlib.closing(sqlite3.connect(folder / "durable.db")) as log:
        assert log.execute("SELECT status, owner, epoch > 1 FROM run WHERE number = 1").fetchone() == ("RUNNING", None, 1)
        assert log.execute("SELECT count(*) FROM worker").fetchone() == (0,), "it took its leave"
        reason = log.execute("SELECT data FROM journal WHERE kind = 'released'").fetchone()[0]
    assert "closed" in json.loads(reason)["reason"]
    kernel.start()
    kernel.cell("%load_ext durable_nb")
    wait_for_approval(kernel)
    kernel.cell('%emit approve {"by": "ann", "extra": 0}')
    assert kernel.cell("await durable.runs.get_run_ref('#1')").results[0]["text/plain"] == "2"


def test_the_durable_kernel_has_the_extension_loaded(durable_kernel: Kernel, folder: Path) -> None:
    reply = durable_kernel.cell("print(durable.path)")
    assert f"log {folder / 'durable.db'}" in reply.text, "what was said at the start stands in the first cell"
    assert reply.text.splitlines()[-1] == str(folder / "durable.db")
    assert "go on" not in durable_kernel.cell("1").text, "it is said once"
    durable_kernel.cell(CHILD)
    assert durable_kernel.cell("await double.aio_run(4)").results[0]["text/plain"] == "8"


def test_loading_takes_less_than_half_a_second(kernel: Kernel) -> None:
    reply = kernel.cell("import time; began = time.process_time()\n%load_ext durable_nb\nprint(time.process_time() - began)")
    assert float(reply.text.split()[-1]) < 0.5
