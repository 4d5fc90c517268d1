"""The inbox in a real page: forms, errors at their fields, answers while a cell runs, keyboard, hostile words, both themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import Notebook

pytestmark = pytest.mark.slow

ASKED = r"""
%load_ext durable_nb
import datetime, time
from typing import Literal
from pydantic import BaseModel, Field, field_validator
HOSTILE = "<img src=x onerror=document.title='hacked'></script>\u202e"

class Line(BaseModel):
    text: str
    amount: float = Field(ge=0)

class Keep(BaseModel):
    keep: bool
    limit: int = Field(ge=0, le=10, description="Groups with a larger spread are dropped. " + HOSTILE)
    colour: Literal["red", "green", "blue"] = "red"
    by: datetime.date = datetime.date(2026, 1, 31)
    lines: list[Line] = Field(min_length=1, title=HOSTILE)
    note: str | None = None
    @field_validator("limit")
    @classmethod
    def even(cls, limit):
        assert limit % 2 == 0, "must be even " + HOSTILE
        return limit

@durable.durable_task()
async def clean(question: str, ctx):
    return await ctx.aio_ask(question, Keep, timeout="24h", assignees=[HOSTILE, "ada"])

@durable.durable_task()
async def publish(question: str, ctx):
    return await ctx.aio_ask(question, bool)

@durable.durable_task()
async def pay(input: str, ctx):
    return (await ctx.aio_wait_for_event("paid", scope=HOSTILE, payload_validator=Line)).amount

kept = clean.run("Keep the doubtful groups? " + HOSTILE, wait_for_result=False)
durable.inbox
"""
BUSY = """
time.sleep(1)
published = publish.run("Publish the report?", wait_for_result=False)
while durable.runs.get(published).status != "COMPLETED":
    time.sleep(0.1)
time.sleep(2)
"""
MORE = """
paid = pay.run("x", wait_for_result=False)
contested = publish.run("Contested?", wait_for_result=False)
time.sleep(0.5)
"""
TOLD = "print(kept.result(), durable.inbox.list(status='answered')[-1])"
FASTER = "durable.inbox.answer([i for i in durable.inbox.list() if i.question == 'Contested?'][0].id, True, by='bob')"
PAID = "print('paid', paid.result())"


def card(inbox: Locator, words: str) -> Locator:
    return inbox.get_by_role("article").filter(has_text=words)


def test_questions_are_answered_by_forms(notebook: Callable[..., Notebook], shot: Callable[..., Path]) -> None:
    page = notebook(ASKED, BUSY, TOLD, MORE, FASTER, PAID)
    inbox = page.run(0)
    keep = card(inbox, "Keep the doubtful groups?")
    expect(keep).to_contain_text("<img src=x onerror=document.title='hacked'></script>\\u202e")
    expect(keep).to_contain_text("23 h 59 min left")

    keep.get_by_role("button", name="Send answer").click()
    expect(keep.get_by_text("choose one")).to_be_visible()
    expect(keep).to_contain_text("4 things are not right yet.")
    expect(keep.get_by_role("radio", name="yes")).to_be_focused()

    keep.get_by_role("radio", name="yes").press("Space")
    limit = keep.get_by_role("textbox", name="limit")
    limit.fill("12")
    expect(keep.get_by_text("at most 10")).to_be_visible()
    expect(limit).to_have_attribute("aria-invalid", "true")
    limit.fill("7")
    expect(keep.get_by_text("at most 10")).to_have_count(0)
    keep.get_by_role("button", name="Remove item 1").press("Enter")
    expect(keep.locator(".dnb-error", has_text="at least 1 item")).to_be_visible()
    expect(keep.get_by_role("button", name="Add item")).to_be_focused()
    page.page.keyboard.press("Enter")
    keep.get_by_role("textbox", name="text").fill("a & b")
    keep.get_by_role("textbox", name="amount").fill("2.5")
    keep.get_by_role("textbox", name="Who answers").fill("Ada")
    inbox.screenshot(path=shot("light"))
    keep.get_by_role("button", name="Send answer").click()
    expect(keep.locator(".dnb-error", has_text="must be even <img")).to_be_visible()  # only the task's own type knows this
    expect(limit).to_be_focused()

    page.run(1, waits=False)
    publish = card(inbox, "Publish the report?")
    publish.get_by_role("radio", name="yes").check()
    expect(publish.get_by_role("textbox", name="Who answers")).to_have_value("Ada")
    publish.get_by_role("button", name="Send answer").click()
    expect(publish.get_by_text("Sent.")).to_be_visible(timeout=3_000)
    limit.fill("8")
    keep.get_by_role("textbox", name="Why").fill("seen & checked")
    keep.get_by_role("button", name="Send answer").press("Enter")
    expect(keep.get_by_text("Sent.")).to_be_visible(timeout=3_000)
    page.page.wait_for_timeout(100)
    told = page.run(2)
    expect(told).to_contain_text("'limit': 8")
    expect(told).to_contain_text("'a & b'")
    expect(told).to_contain_text("reason='seen & checked'")

    page.run(3)
    contested, paid = card(inbox, "Contested?"), card(inbox, "pushes the event")
    contested.get_by_role("radio", name="no").check()
    contested.get_by_role("button", name="Later").click()
    expect(contested.get_by_role("button", name="Go on…")).to_be_focused()
    contested.get_by_role("button", name="Go on…").press("Enter")
    expect(contested.get_by_role("radio", name="no")).to_be_checked()
    page.run(4)
    expect(contested).to_contain_text("bob answered first: true. What you had filled in was not sent.")
    contested.get_by_role("button", name="Dismiss").click()
    paid.get_by_role("textbox", name="text").fill("x")
    paid.get_by_role("textbox", name="amount").fill("2")
    paid.get_by_role("textbox", name="amount").press("Enter")
    expect(page.run(5)).to_contain_text("paid 2.0")
    inbox.get_by_text("Answered and closed").click()
    expect(inbox.get_by_role("list")).to_contain_text("answered by Ada")
    expect(inbox.get_by_text("Nothing is asked of anybody now.")).to_be_visible(timeout=10_000)
    inbox.screenshot(path=shot("answered"))
    assert page.page.title() != "hacked"
    assert page.page.locator("img[src=x]").count() == 0


def test_it_is_drawn_dark_and_narrow_and_leaves_a_picture_behind(
    notebook: Callable[..., Notebook], shot: Callable[..., Path]
) -> None:
    page = notebook(ASKED, theme="dark", width=700)
    page.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    inbox = page.run(0)
    page.page.set_viewport_size({"width": 480, "height": 1000})
    expect(inbox.get_by_role("button", name="Send answer")).to_be_visible()
    inbox.get_by_role("button", name="Add item").click()
    form = inbox.locator(".dnb")
    assert form.evaluate(
        "element => [...element.querySelectorAll('*')].every((inner) => inner.scrollWidth <= element.clientWidth)"
    )
    form.screenshot(path=shot())
    [output] = page.saved().cells[0].outputs[-1:]
    assert "doubtful" in output.data["text/plain"]
    assert "&lt;img src=x" in output.data["text/html"]
    assert "<img" not in output.data["text/html"]
