"""JupyterLab as a person meets it: a server in a folder, notebooks opened in a page, cells run by Lab's own commands."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
CELL_MS = 60_000

READY = """async () => {
  const until = async (look) => {
    for (let i = 0; i < 1200; i++) {
      const found = look();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("JupyterLab was not ready in time");
  };
  const app = await until(() => window.jupyterapp);
  await app.restored;
  const panel = await until(() => app.shell.currentWidget?.sessionContext && app.shell.currentWidget);
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""
RUN = """async ([index, waits]) => {
  const app = window.jupyterapp;
  const notebook = app.shell.currentWidget.content;
  notebook.activeCellIndex = index;
  notebook.deselectAll();
  const done = app.commands.execute("notebook:run-cell");
  if (waits) await done;
}"""
RESTART = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  await kernel.restart();
  await kernel.info;
}"""
SAVE = """async () => { await window.jupyterapp.shell.currentWidget.context.save(); }"""


class Lab:
    """A server. Its notebooks are given tokens, never answered from elsewhere than this machine, and gone with the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> Lab:
        state = self.folder / ".state"
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        environment = os.environ | {name: str(state / place) for name, place in places.items()}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._log = (self.folder / "lab.log").open("wb")
        options = [
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.url.rpartition(':')[2]}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=t",
            f"--ServerApp.root_dir={self.folder}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.news_url=",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "lab.log").read_text(encoding="utf-8"))
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api?token=t", timeout=1):
                return True
        except OSError:
            return False

    def open(self, browser: Browser, name: str, cells: Sequence[str], *, theme: str, width: int) -> Notebook:
        """Write a notebook in a folder of its own and open it, its kernel running."""
        folder = self.folder / re.sub(r"\W+", "_", name)
        number = 1
        while (folder / f"{number}").exists():
            number += 1
        folder = folder / f"{number}"
        folder.mkdir(parents=True)
        content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        content.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = folder / "notebook.ipynb"
        nbformat.write(content, path)
        return Notebook(self, browser, path, theme=theme, width=width)


class Notebook:
    """A notebook in a page.

    Attributes:
        page: Playwright's page. path: the file. page_errors, requests_outside: what must stay empty.
    """

    def __init__(self, lab: Lab, browser: Browser, path: Path, *, theme: str, width: int) -> None:
        self.path = path
        self.page_errors: list[str] = []
        self.requests_outside: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": width, "height": 1000}, reduced_motion="no-preference")
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.on("request", lambda request: self._note(lab.url, request.url))
        self.address = f"{lab.url}/lab/tree/{path.relative_to(lab.folder).as_posix()}?token=t&reset"
        self.reload()
        if theme == "dark":
            self.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
            self.page.wait_for_selector("[data-jp-theme-light=false]", state="attached")

    def _note(self, own: str, url: str) -> None:
        if (
            url.startswith(("http:", "https:", "ws:", "wss:"))
            and url.partition("://")[2].split("/")[0] != own.partition("://")[2]
        ):
            self.requests_outside.append(url)

    def reload(self) -> None:
        """Open the page anew."""
        self.page.goto(self.address)
        self.page.evaluate(READY)

    def run(self, index: int, *, waits: bool = True) -> Locator:
        """Run a cell; give its output. Without `waits` it may be running still."""
        self.page.evaluate(RUN, [index, waits])
        return self.output(index)

    def output(self, index: int) -> Locator:
        """Give the output area of a cell."""
        return self.page.locator(".jp-Notebook-cell").nth(index).locator(".jp-Cell-outputArea")

    def restart(self) -> None:
        """Restart the kernel."""
        self.page.evaluate(RESTART)

    def saved(self) -> Any:
        """Save; give the notebook as its file has it."""
        self.page.evaluate(SAVE)
        return nbformat.read(self.path, as_version=4)

    def close(self) -> None:
        """Close the page and shut its kernel down."""
        self.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        self.page.close()
