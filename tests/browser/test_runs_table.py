"""The table of runs in a real page: live, filtered, sorted, paged, by keyboard, with bulk actions, on a log of 100,000 runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.lab import Notebook

pytestmark = pytest.mark.slow

RUNS = r"""
%load_ext durable_nb
import asyncio, sqlite3, time
HOSTILE = "<img src=x onerror=document.title='hacked'></script>\u202e"
@durable.task()
def double(input: dict, ctx):
    if input["n"] % 10 == 3:
        raise ValueError("no " + HOSTILE)
    return {"twice": 2 * input["n"], "said": HOSTILE}
@durable.durable_task(name="waits " + HOSTILE)
async def waits(input: dict, ctx):
    ctx.progress(0.42, HOSTILE)
    await ctx.aio_wait_for_event("paid " + HOSTILE)
items = [double.create_bulk_run_item(input={"n": n, "h": HOSTILE}, additional_metadata={"customer": n % 3}) for n in range(60)]
double.run_many(items, return_exceptions=True)
waiting = [waits.run({"n": n}, wait_for_result=False) for n in range(4)]
time.sleep(0.3)
durable.runs.table()
"""
BUSY = """
for n in range(20):
    double.run({"n": 0, "h": "later"})
    time.sleep(0.2)
"""
MANY = """
with sqlite3.connect(durable.path) as log:
    columns = ", ".join(row[1] for row in log.execute("PRAGMA table_info(run)") if row[1] not in ("number", "id", "key"))
    log.execute(f'''INSERT INTO run (number, id, {columns})
        WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        SELECT i, 'COPY' || i, {columns} FROM n JOIN run ON run.number = 1 + i % 60''')
log.close()
durable.runs.table(status="FAILED")
"""


def test_runs_are_found_chosen_and_steered(notebook: Callable[..., Notebook], shot: Callable[..., Path]) -> None:
    page = notebook(RUNS, BUSY, MANY)
    table = page.run(0)
    rows = table.locator("tbody tr")
    grid = table.get_by_role("grid")
    expect(rows).to_have_count(25)
    expect(table).to_contain_text("1–25 of 64 runs")
    expect(rows.first).to_contain_text("waiting")
    expect(rows.first).to_contain_text("42 %")
    expect(rows.first).to_contain_text("<img src=x")
    table.screenshot(path=shot("light"))

    page.run(1, waits=False)  # all that follows happens while this cell runs, and starts runs
    expect(rows.first).to_contain_text("later")
    table.get_by_role("columnheader", name="Run", exact=True).get_by_role("button").click()
    expect(rows.first).to_contain_text("#1")
    expect(table.get_by_role("columnheader", name="Run", exact=True)).to_have_attribute("aria-sort", "ascending")
    table.get_by_role("button", name="Next page").click()
    expect(rows.first).to_contain_text("#26")
    table.get_by_role("searchbox").fill("waits")
    expect(rows).to_have_count(4)

    rows.first.focus()
    page.page.keyboard.press("Shift+ArrowDown")
    expect(table.get_by_text("2 chosen", exact=True).first).to_be_visible()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Space")
    expect(table.locator("tr[aria-selected=true]")).to_have_count(3)
    page.page.keyboard.press("Space")
    page.page.wait_for_timeout(500)
    expect(table.locator("tr[aria-selected=true]")).to_have_count(2)  # the updates since then have changed nothing of it
    expect(rows.nth(2)).to_be_focused()
    table.get_by_role("button", name="Cancel…").click()
    expect(table.get_by_text("Cancel 2 runs? Unfinished children are cancelled too.")).to_be_visible()
    expect(table.get_by_role("button", name="Back")).to_be_focused()
    table.get_by_role("button", name="Cancel 2 runs").click()
    expect(table.get_by_text("2 runs cancelled.").first).to_be_visible(timeout=3_000)
    expect(table.locator("tbody .dnb-pill", has_text="cancelled")).to_have_count(2)
    table.get_by_role("button", name="OK", exact=True).click()
    rows.nth(3).focus()
    page.page.keyboard.press("Enter")
    opened = table.get_by_role("region", name=re.compile("^Run #"))  # its own live view, while the cell may still run
    expect(opened.get_by_role("treeitem").first).to_contain_text("waits <img src=x")
    expect(opened.get_by_role("button", name="Close")).to_be_focused()
    opened.screenshot(path=shot("opened"))
    page.page.keyboard.press("Escape")
    expect(rows.nth(3)).to_be_focused()
    expect(opened).to_have_count(0)

    table.get_by_role("searchbox").fill("customer=1 double")
    expect(table).to_contain_text("1–20 of 20 runs")
    table.get_by_role("combobox", name="State").select_option("failed")
    expect(rows).to_have_count(2)
    table.get_by_label("Choose all runs of this page").check()
    table.get_by_role("button", name="Replay…").click()
    table.get_by_role("button", name="Replay 2 runs").click()
    expect(rows.first).to_contain_text("attempt 2")
    assert page.page.title() != "hacked"
    assert page.page.locator("img[src=x]").count() == 0
    expect(grid).to_have_attribute("aria-multiselectable", "true")


def test_a_hundred_thousand_runs_are_paged_and_the_picture_stays(
    notebook: Callable[..., Notebook], shot: Callable[..., Path]
) -> None:
    page = notebook(RUNS, MANY, theme="dark", width=1100)
    page.run(0)
    table = page.run(1)
    rows = table.locator("tbody tr")
    expect(rows).to_have_count(25)
    expect(table).to_contain_text(re.compile("of [0-9,]+ runs"))
    table.get_by_label("Choose all runs of this page").check()
    table.get_by_role("button", name=re.compile("Choose all .* that fit")).click()
    table.get_by_role("button", name="Replay…").click()
    expect(table.get_by_text(re.compile(r"Replay 9,9\d\d runs\?"))).to_be_visible()
    table.screenshot(path=shot("dark"))
    table.get_by_role("button", name="Back").click()
    table.get_by_role("button", name="Clear").click()
    table.get_by_role("columnheader", name="Took").get_by_role("button").click()
    expect(table.get_by_role("columnheader", name="Took")).to_have_attribute("aria-sort", "descending")
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.page.set_viewport_size({"width": 460, "height": 1200})
    table.locator(".dnb").screenshot(path=shot("narrow"))
    [output] = page.saved().cells[1].outputs[-1:]
    assert "ValueError" in output.data["text/plain"]
    assert "<img" not in output.data["text/html"]
