"""The replay tab in a real page: stepping, forking with another value, comparing, and what a person puts into the notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.lab import Notebook

pytestmark = pytest.mark.slow

LOAD = """
%load_ext durable_nb
from durable_nb.views.run_view import RunView
"""
TASK = """%%durable_task
import asyncio
from datetime import timedelta
from pydantic import BaseModel

class Score(BaseModel):
    group: str
    spread: float

@durable.task()
def load_rows(input: str, ctx) -> list[dict]:
    return [{"group": f"<img src=x onerror=alert({n})>", "value": n * 1.5} for n in range(6)]

@durable.task()
def score_group(input: dict, ctx) -> Score:
    if input["value"] == 6:
        raise ValueError("</script><b>no rows</b>")
    return Score(group=input["group"], spread=input["value"] % 4)

async def settle(ctx, score):
    fee = round(score.spread * 3, 2)
    await ctx.aio_sleep_for(timedelta(milliseconds=fee))
    return fee

async def clean_sales(input: str, ctx) -> dict:
    rows = await load_rows.aio_run(input)
    scores = await score_group.aio_run_many(
        [score_group.create_bulk_run_item(row) for row in rows], return_exceptions=True
    )
    good = [score for score in scores if isinstance(score, Score)]
    fees = await asyncio.gather(*(settle(ctx, score) for score in good[:3]))  # <i>not markup</i>
    rate = await ctx.aio_memo(lambda: {"limit": 10, "names": ["a", "b"]}, dict)
    total = sum(fees) * rate["limit"]
    return {"total": total}
"""
RUN = "run = clean_sales.run('cars</b>', wait_for_result=False); run.result()"
VIEW = "RunView(durable, run.workflow_run_id, tab='replay')"
MANY = """%%durable_task
async def many(input: int, ctx) -> int:
    seen = []
    for n in range(input):
        seen.append(n)
        await ctx.aio_now()
    return len(seen)
"""
RUN_MANY = "run = many.run(10_000, wait_for_result=False); run.result()"


def test_a_history_is_stepped_through_forked_with_another_value_and_compared(
    notebook: Callable[..., Notebook], shot: Callable[..., Path]
) -> None:
    page = notebook(LOAD, TASK, RUN, VIEW, "print(replayed.fee, replayed.score['spread'])")
    for index in range(3):
        page.run(index)
    page.run(3)
    view = page.page.locator(".dnb-run-view")  # cells out of sight are not in the page, so it has no fixed number there
    slider = view.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", 'checkpoint 1 of 11, load_rows "cars</b>", line 26')
    expect(view.locator(".dnb-at")).to_contain_text("rows = await load_rows")
    view.get_by_role("button", name="Step forward").click()
    expect(view.locator(".dnb-changed")).to_contain_text("rows")
    expect(view.locator(".dnb-locals")).to_contain_text("<img src=x onerror=alert(0)>")
    expect(view.locator(".dnb-at .dnb-mark-here")).to_have_text("● 2")
    slider.focus()
    for _ in range(4):
        page.page.keyboard.press("ArrowRight")
    expect(view.locator(".dnb-outcome")).to_contain_text("</script><b>no rows</b>")
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    expect(view.locator(".dnb-stack [aria-pressed=true]")).to_have_text("settle line 22 task 3 asks")
    expect(view.locator(".dnb-at")).to_contain_text("await ctx.aio_sleep_for")
    view.screenshot(path=shot("gather"))
    view.get_by_role("button", name="Into notebook").click()
    expect(view.get_by_role("status").filter(has_text="replayed")).to_contain_text("replayed.fee")
    assert page.run(4).inner_text().strip() == "4.5 1.5"

    slider.press("End")
    expect(view.locator(".dnb-outcome")).to_contain_text("the function returned")
    slider.press("ArrowLeft")
    expect(view.locator(".dnb-outcome")).to_contain_text('"limit": 10')
    view.get_by_role("button", name="Fork here…").click()
    view.get_by_label("with another value").check()
    value = view.get_by_label("Value, as JSON")
    value.fill("{limit: 3}")
    view.get_by_role("button", name="Start the fork").click()
    expect(view.get_by_role("alert").filter(has_text="no JSON")).to_be_visible()
    value.fill('{"limit": 3, "names": ["a"]}')
    view.screenshot(path=shot("fork"))
    value.press("Control+Enter")
    view.get_by_role("button", name="Compare", exact=True).click()
    expect(view.locator(".dnb-compare-words")).to_have_text("first difference at checkpoint 11; 1 of 11 checkpoints differs")
    expect(view.locator(".dnb-changes tbody tr").first).to_have_text("limit103")
    expect(view.get_by_role("group", name="Branches and forks")).to_contain_text("fork")
    view.screenshot(path=shot("compare"))
    view.get_by_role("button", name="Step through it").click()
    slider.press("End")
    expect(view.locator(".dnb-outcome")).to_contain_text('"total": 40.5')


def test_ten_thousand_checkpoints_are_dragged_through_in_a_narrow_dark_cell(
    notebook: Callable[..., Notebook], shot: Callable[..., Path]
) -> None:
    page = notebook(LOAD, MANY, RUN_MANY, VIEW, theme="dark", width=830)
    for index in range(3):
        page.run(index)
    page.run(3)
    view = page.page.locator(".dnb-run-view")  # cells out of sight are not in the page, so it has no fixed number there
    slider = view.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuemax", "10000", timeout=40_000)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    assert box["width"] < 420
    page.page.mouse.move(box["x"] + 20, box["y"] + 10)
    page.page.mouse.down()
    for part in range(1, 11):
        page.page.mouse.move(box["x"] + 9 + (box["width"] - 18) * part / 20, box["y"] + 10)
    page.page.mouse.up()
    expect(slider).to_have_attribute("aria-valuenow", "5000")
    expect(view.locator(".dnb-locals")).to_contain_text("list[int] 5,001", timeout=60_000)
    assert view.locator(".dnb-dot").count() <= 50
    slider.press("PageUp")
    expect(view.locator(".dnb-locals")).to_contain_text("list[int] 6,001", timeout=40_000)
    expect(view.locator(".dnb-at .dnb-mark-here")).to_have_text("● 6001")
    view.screenshot(path=shot())
    slider.press("Home")
    slider.press(" ")
    expect(view.get_by_role("button", name="Pause")).to_be_visible()
    expect(slider).not_to_have_attribute("aria-valuenow", "0")
    slider.press(" ")
    expect(view.get_by_role("button", name="Play")).to_be_visible()
