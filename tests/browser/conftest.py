"""One JupyterLab and one Chromium for all tests of a session; each test has a notebook, a log and a kernel of its own.

Chromium is Debian's ``chromium``, or the one that ``playwright install chromium`` brings; without it the tests are skipped. CI
installs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error as PlaywrightError, Playwright, expect, sync_playwright

from tests.browser.lab import Lab, Notebook

SHOTS = Path(__file__).parent / "screenshots"  # git-ignored; looked at by whoever changes a view
expect.set_options(timeout=20_000)  # a machine may have more to do than this test
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]


def launch(playwright: Playwright) -> Browser:
    """Start the system's Chromium, else Playwright's own."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("chromium-browser"), args=FLAGS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with sync_playwright() as playwright:
        try:
            browser = launch(playwright)
        except PlaywrightError as error:
            if "Executable doesn't exist" not in str(error):
                raise
            pytest.skip("no Chromium here: install Debian's chromium, or run `playwright install chromium`")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab server in a folder of its own."""
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def notebook(lab: Lab, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Notebook]]:
    """Open a new notebook with these cells: ``notebook("cell", "cell", theme="dark")``.

    At the end nothing may have gone wrong in its page, and nothing been asked of another host.
    """
    opened: list[Notebook] = []

    def open_notebook(*cells: str, theme: str = "light", width: int = 1280) -> Notebook:
        opened.append(lab.open(browser, request.node.name, cells, theme=theme, width=width))
        return opened[-1]

    yield open_notebook
    for one in opened:
        one.close()
    for one in opened:
        assert not one.page_errors
        assert not one.requests_outside


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Give the path of a screenshot of this test: ``shot("dark")``."""
    SHOTS.mkdir(exist_ok=True)
    return lambda name="": SHOTS / f"{request.node.name}{'-' if name else ''}{name}.png"
