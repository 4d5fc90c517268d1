"""A person's first minutes, in JupyterLab and in Notebook 7: a cell, a run, a killed kernel, an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import Lab

pytestmark = pytest.mark.slow

CELLS = [
    "%load_ext durable_nb",
    "%%task\ndef double(input: int, ctx) -> int:\n    return 2 * input",
    "%%durable_task\nasync def total(input: int, ctx) -> int:\n"
    "    part = await double.aio_run(input)\n"
    "    answer = await ctx.aio_wait_for_event('go')\n"
    "    return part + answer['more']",
    "handle = %durable run total 20 --key first\nhandle",
    "import os, signal\nos.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))",
    '%durable emit go {"more": 2}',
    "durable.runs.get_result('first')",
]


@pytest.fixture(params=["lab", "notebook"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """Each of the two, started."""
    with Lab(tmp_path, app=request.param) as lab:
        yield lab


def test_a_run_outlives_its_killed_kernel(server: Lab, browser: Browser) -> None:
    page = server.open(browser, "first minutes", CELLS, theme="light", width=1280)
    for index in range(4):
        page.run(index)
    expect(page.output(3)).to_contain_text("total")
    page.kill(4)
    expect(page.run(0)).to_contain_text("1 run goes on")
    expect(page.run(5)).to_contain_text("go reached 1 run")
    expect(page.run(6)).to_contain_text("42")
    page.close()
    assert not page.page_errors
    assert not page.requests_outside
