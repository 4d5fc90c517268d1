"""The view of a run in a real page: it lives, opens and folds, is worked by keys alone, and leaves a picture behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import Notebook

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)></script>\u202ecod.exe\x1b[31m javascript:alert(2)"
TASKS = f"""
import time
from datetime import timedelta
from durable_nb import DurableContext, SleepCondition, UserEventCondition, or_
%load_ext durable_nb
HOSTILE = {HOSTILE!r}

@durable.task()
def load_rows(input: dict, ctx) -> dict:
    print("loaded", HOSTILE)
    time.sleep(0.2)
    return {{"rows": 9994, "said": HOSTILE}}

@durable.task()
async def score(input: int, ctx) -> int:
    if input == 7:
        raise ValueError("the spread of 7: " + HOSTILE)
    return input

@durable.task(name="<b>odd</b> " + HOSTILE)
def odd(input: str, ctx) -> str:
    return input

etl = durable.workflow(name="etl")

@etl.task()
def extract(input, ctx):
    return [1]

@etl.task(parents=[extract])
def clean(input, ctx):
    return [1]

@durable.durable_task()
async def sales(input: dict, ctx: DurableContext) -> str:
    await load_rows.aio_run({{"path": "superstore.csv"}})
    print("rows are there", HOSTILE)
    await ctx.aio_sleep_for(timedelta(seconds=0.3))
    await ctx.aio_memo(lambda: 1)
    await odd.aio_run(HOSTILE)
    await etl.aio_run({{}})
    await score.aio_run_many([score.create_bulk_run_item(n) for n in range(40)], return_exceptions=True)
    go = UserEventCondition("go:" + HOSTILE, expression="input.ok == true")
    await ctx.aio_wait_for("approval", or_(go, SleepCondition(timedelta(hours=24))))
    return "done " + HOSTILE
"""
SHOW = 'handle = %durable run sales {"year": 2026} --key sales\nhandle'
EMIT = 'durable.event.push("go:" + HOSTILE, {"ok": True})'
BUSY = "from pathlib import Path\nwhile not Path('stop').exists(): time.sleep(0.1)"


def nodes(view: Locator, name: str | re.Pattern[str]) -> Locator:
    return view.get_by_role("treeitem", name=name)


def no_markup(page: Page) -> None:
    assert page.evaluate("() => document.querySelectorAll('.dnb img, .dnb script, .dnb b b').length") == 0


def test_a_run_is_seen_as_it_happens(notebook: Callable[..., Notebook], shot: Callable[..., Path]) -> None:
    page = notebook(TASKS, SHOW, BUSY, EMIT)
    page.run(0)
    view = page.run(1)
    group = nodes(view, re.compile("^score: 40 runs, 39 completed, 1 failed$"))
    expect(group).to_be_visible(timeout=60_000)
    expect(nodes(view, re.compile("^waits for go:<img.* if input.ok == true or 1 d, 23 h 59 min left"))).to_be_visible()
    expect(view.locator(".dnb-pill").first).to_have_text("waiting")
    expect(view.locator(".dnb-head")).to_contain_text("43 children")
    view.screenshot(path=shot("wide"))
    page.run(2, waits=False)  # from here on a cell runs
    nodes(view, re.compile("^etl")).locator("button").click()
    expect(nodes(view, re.compile("^clean, completed"))).to_be_visible(timeout=30_000)
    group.click()
    expect(nodes(view, "children 1–12 of 40")).to_be_visible(timeout=30_000)
    view.get_by_role("button", name="later children").click()
    expect(nodes(view, re.compile("^score 13, completed"))).to_be_visible(timeout=30_000)
    nodes(view, re.compile("^load_rows")).click()
    panel = view.get_by_role("complementary", name="Details")
    expect(panel).to_contain_text('"path": "superstore.csv"', timeout=30_000)
    expect(panel).to_contain_text("\\u202ecod.exe\\x1b[31m")
    view.screenshot(path=shot("panel"))
    panel.get_by_role("button", name="Close").click()
    expect(nodes(view, re.compile("^load_rows"))).to_be_focused()
    no_markup(page.page)
    (page.path.parent / "stop").touch()
    page.run(3)
    expect(view.locator(".dnb-pill").first).to_have_text("completed", timeout=30_000)
    expect(view.get_by_role("button", name="Cancel")).to_be_hidden()
    view.get_by_role("tab", name="Log").click()
    expect(view.get_by_role("log")).to_contain_text("rows are there <img src=x onerror=alert(1)></script>\\u202ecod.exe\\x1b[31m")
    no_markup(page.page)


def test_keys_alone_and_a_narrow_dark_page_do(notebook: Callable[..., Notebook], shot: Callable[..., Path]) -> None:
    page = notebook(TASKS, SHOW, theme="dark", width=740)
    page.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.run(0)
    view = page.run(1)
    expect(nodes(view, re.compile("^score: 40 runs, 39"))).to_be_visible(timeout=60_000)
    keys = page.page.keyboard
    nodes(view, re.compile("^sales")).focus()
    keys.press("ArrowDown")
    expect(nodes(view, re.compile("^load_rows"))).to_be_focused()
    keys.press("Enter")
    panel = view.get_by_role("complementary", name="Details")
    expect(panel).to_contain_text("9994", timeout=30_000)
    view.screenshot(path=shot("panel"))
    keys.press("Escape")
    expect(panel).to_be_hidden()
    expect(nodes(view, re.compile("^load_rows"))).to_be_focused()
    for _ in range(3):
        keys.press("ArrowDown")
    expect(nodes(view, re.compile("^etl"))).to_be_focused()
    keys.press("ArrowRight")
    expect(nodes(view, re.compile("^clean, completed"))).to_be_visible(timeout=30_000)
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    expect(nodes(view, re.compile("^extract, completed"))).to_be_focused()
    keys.press("End")
    expect(nodes(view, re.compile("^waits for go"))).to_be_focused()
    assert view.locator("[role=treeitem][tabindex='0']").count() == 1
    room = view.locator(".dnb-graph-scroll").evaluate("(e) => [e.scrollWidth, e.clientWidth]")
    assert room[0] <= room[1], "a narrow graph is not scrolled sideways"
    view.screenshot(path=shot("graph"))
    tab = view.get_by_role("tab", name="Graph")
    tab.focus()
    keys.press("ArrowRight")
    expect(view.get_by_role("tab", name="Timeline")).to_be_focused()
    frame = view.get_by_role("group", name=re.compile("^Timeline"))
    expect(frame.locator(".dnb-lane-label")).to_contain_text(["sales", "checkpoints", "load_rows"])
    keys.press("Tab")
    expect(frame).to_be_focused()
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    said = view.locator(".dnb-readout")
    expect(said).to_have_text(
        re.compile(r"^load_rows \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} to \d\d:\d\d:\d\d\.\d{3}, \d+ ms · completed$")
    )
    waits = frame.locator(".dnb-shape-wait.dnb-wait").bounding_box()
    assert waits is not None
    page.page.mouse.move(waits["x"] + 20, waits["y"] + waits["height"] - 6)
    expect(said).to_contain_text("wait for go:<img src=x onerror=alert(1)>")
    view.screenshot(path=shot("timeline"))
    no_markup(page.page)


def test_it_comes_back_after_a_restart_and_leaves_a_picture(notebook: Callable[..., Notebook], shot: Callable[..., Path]) -> None:
    page = notebook(TASKS, SHOW, "%load_ext durable_nb\ndurable.runs.view('sales', tab='timeline')")
    page.run(0)
    view = page.run(1)
    expect(nodes(view, re.compile("^waits for go"))).to_be_visible(timeout=60_000)
    pictures = view.locator("img[src*=dnb-picture]")
    expect(pictures).to_have_count(1)
    expect(pictures).to_be_hidden()
    page.page.wait_for_timeout(2_500)  # a picture is drawn every two seconds at most
    saved = page.saved().cells[1].outputs
    assert [sorted(output.data) for output in saved] == [
        ["application/vnd.jupyter.widget-view+json", "text/plain"],
        ["image/svg+xml", "text/plain"],
    ]
    still = saved[1].data["image/svg+xml"]
    assert "waits for go:&lt;img src=x onerror=alert(1)&gt;" in still
    assert "<script" not in still
    assert "<img" not in still
    assert "◌ waits for `go:<img" in saved[1].data["text/plain"]
    page.restart()
    expect(view.get_by_role("alert")).to_contain_text("The kernel has ended", timeout=60_000)
    view.screenshot(path=shot("restarted"))
    page.reload()
    expect(pictures).to_be_visible(timeout=60_000)
    view.screenshot(path=shot("reloaded"))
    again = page.run(2)
    expect(again.get_by_role("tab", name="Timeline")).to_have_attribute("aria-selected", "true", timeout=60_000)
    again.get_by_role("tab", name="Graph").click()
    expect(nodes(again, re.compile("^waits for go"))).to_be_visible()
    no_markup(page.page)


MANY = """
from durable_nb import DurableContext
%load_ext durable_nb
from durable_nb.log.connection import open_sqlite

@durable.durable_task()
async def big(input: dict, ctx: DurableContext) -> str:
    await ctx.aio_wait_for_event("never")
    return ""

handle = %durable run big {}
parent = durable.runs.get(handle.id).number
connection = open_sqlite(durable.path)
connection.execute("BEGIN IMMEDIATE")
columns = "id, task, kind, input, metadata, priority, home, event_floor, parent, child_index, created_at"
columns += ", status, started_at, finished_at"
for number in range(10_000):
    at = handle.created + number / 100
    status = "RUNNING" if number % 10 == 0 else "FAILED" if number % 997 == 0 else "COMPLETED"
    row = (f"C{number:06}", "score", "task", "{}", "{}", 1, "", 0, parent, number, at)
    row += (status, at, None if status == "RUNNING" else at + 1)
    connection.execute(f"INSERT INTO run ({columns}) VALUES (" + ", ".join("?" * len(row)) + ")", row)
connection.execute("COMMIT")
durable.runs.view(handle.id)
"""


def test_ten_thousand_children_are_one_node_and_little_memory(
    notebook: Callable[..., Notebook], shot: Callable[..., Path]
) -> None:
    page = notebook("1", MANY.replace("handle.created", "durable.runs.get(handle.id).created_at"))
    page.run(0)
    session = page.page.context.new_cdp_session(page.page)
    session.send("Performance.enable")

    def heap() -> float:
        session.send("HeapProfiler.collectGarbage")
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == "JSHeapUsedSize") / 1e6

    before = heap()
    view = page.run(1)
    group = nodes(view, "score: 10,000 runs, 8,991 completed, 9 failed, 1,000 running")
    expect(group).to_be_visible(timeout=60_000)
    group.click()
    expect(nodes(view, "children 1–12 of 10,000")).to_be_visible(timeout=60_000)
    view.screenshot(path=shot("graph"))
    view.get_by_role("tab", name="Timeline").click()
    expect(view.locator(".dnb-lane-label").filter(has_text="score × 10,000")).to_be_visible()
    view.screenshot(path=shot("timeline"))
    taken = heap() - before
    assert taken < 50, f"{taken:.1f} MB"
    assert view.locator(".dnb *").count() < 1_500
    print(f"heap of a view of 10,000 children: {taken:.1f} MB")
