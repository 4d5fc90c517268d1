"""JupyterLab as a person meets it: a server in a folder, notebooks opened in a page, cells run by Lab's own commands."""

from __future__ import annotations

import json
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
from urllib.parse import urlsplit

import nbformat
from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"windowingMode": "none"},  # else cells that are out of sight are not in the page, nor counted
}
MODULES = {"lab": "jupyterlab", "notebook": "notebook"}
KINDS = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}
PAGES = {
    "lab": "lab/workspaces/{place}/tree",
    "notebook": "notebooks",
}  # else Lab opens what earlier tests had open, kernels and all

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
KILL = """async (index) => {
  const app = window.jupyterapp;
  const notebook = app.shell.currentWidget.content;
  const kernel = app.shell.currentWidget.sessionContext.session.kernel;
  const died = new Promise((resolve) => {
    const look = (_, status) => {
      if (status === "autorestarting") resolve();
    };
    kernel.statusChanged.connect(look);
  });
  notebook.activeCellIndex = index;
  notebook.deselectAll();
  app.commands.execute("notebook:run-cell");
  await died;
  for (let i = 0; i < 600 && kernel.status !== "idle"; i++) await new Promise((resolve) => setTimeout(resolve, 50));
  await kernel.requestKernelInfo();
}"""
SAVE = """async () => { await window.jupyterapp.shell.currentWidget.context.save(); }"""


class Lab:
    """A server: JupyterLab's, or Notebook 7's (`app="notebook"`). It answers this machine only, and is gone with its folder."""

    def __init__(self, folder: Path, *, app: str = "lab") -> None:
        self.folder = folder
        self._app = app
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
        for plugin, settings in SETTINGS.items():
            path = state / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        self._log = (self.folder / "lab.log").open("wb")
        options = [
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.url.rpartition(':')[2]}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=t",
            f"--ServerApp.root_dir={self.folder}",
            f"--{KINDS[self._app]}.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.news_url=",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULES[self._app], *options], env=environment, stdout=self._log, stderr=subprocess.STDOUT
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
        page = PAGES[self._app].format(place=f"{folder.parent.name}-{number}")
        address = f"{self.url}/{page}/{path.relative_to(self.folder).as_posix()}?token=t"
        return Notebook(browser, path, address, theme=theme, width=width)


class Notebook:
    """A notebook in a page.

    Attributes:
        page: Playwright's page. path: the file. page_errors, requests_outside: what must stay empty.
    """

    def __init__(self, browser: Browser, path: Path, address: str, *, theme: str, width: int) -> None:
        self.path = path
        self.address = address
        self.page_errors: list[str] = []
        self.requests_outside: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": width, "height": 1000}, reduced_motion="no-preference")
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.reload()
        self.page_errors.clear()  # Notebook 7 has one of its own while it starts
        if theme == "dark":
            self.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
            self.page.wait_for_selector("[data-jp-theme-light=false]", state="attached")

    def _note(self, url: str) -> None:
        asked, own = urlsplit(url), urlsplit(self.address)
        if asked.scheme in {"http", "https", "ws", "wss"} and asked.netloc != own.netloc:
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
        return (
            self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell").nth(index).locator(".jp-Cell-outputArea")
        )

    def restart(self) -> None:
        """Restart the kernel."""
        self.page.evaluate(RESTART)

    def kill(self, index: int) -> None:
        """Run a cell that ends its kernel; give when Jupyter has started another."""
        self.page.evaluate(KILL, index)
        for button in self.page.locator(".jp-Dialog button.jp-mod-accept").all():  # "The kernel has died": Ok
            button.click()

    def saved(self) -> Any:
        """Save; give the notebook as its file has it."""
        self.page.evaluate(SAVE)
        return nbformat.read(self.path, as_version=4)

    def close(self) -> None:
        """Close the page and shut its kernel down."""
        self.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        self.page.close()
