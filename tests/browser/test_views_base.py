"""What all views share, in a real page: they are drawn, updated and acted on while a cell runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.lab import Notebook

pytestmark = pytest.mark.slow

VIEW = '''
from durable_nb.views.web import text
from durable_nb.views.widget import View
from durable_nb.views import web

MODULE = """
import { connect } from "./live.mjs";
import { h, replace } from "./dom.mjs";
export default {
  render({ model, el }) {
    const live = connect(model, { changed: (items) => replace(out, `runs ${items.get("runs")}`) });
    const out = h("output", {});
    const answer = h("output", {});
    el.classList.add("dnb");
    const greet = async () => replace(answer, await live.perform("greet", { name: "Ada" }));
    el.append(out, h("button", { click: greet }, "Greet"), answer);
    return () => live.close();
  },
};
"""
kept = web.text
web.text = lambda name: MODULE if name == "counter.mjs" else kept(name)

class Counter(View):
    _esm = web.module("counter.mjs")
    _css = web.styles()
    def actions(self):
        return {"greet": lambda name: f"hello {name}"}

class Count:
    def read(self, connection):
        return {"runs": connection.execute("SELECT count(*) FROM run").fetchone()[0]}

view = Counter(durable, Count())
view
'''
TASK = """
%load_ext durable_nb
@durable.task()
def double(input: int, ctx) -> int:
    return 2 * input
"""
BUSY = """
import time
for number in range(60):
    double.run(number)
    time.sleep(0.1)
"""


def test_a_view_lives_while_a_cell_runs(notebook: Callable[..., Notebook]) -> None:
    page = notebook(TASK, VIEW, BUSY)
    page.run(0)
    view = page.run(1)
    expect(view.locator("output").first).to_have_text("runs 0")
    page.run(2, waits=False)
    expect(view.locator("output").first).not_to_have_text("runs 0")
    view.get_by_role("button", name="Greet").click()
    expect(view.locator("output").nth(1)).to_have_text("hello Ada", timeout=2_000)
    assert view.locator("output").first.inner_text() != "runs 60", "the cell was to be running still"
