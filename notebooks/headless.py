"""Run the airports notebook without a browser, kill its kernel in the middle, watch the run go on, answer its question.

Invariant: nothing is staged. A real kernel executes the cells, SIGKILL ends it, and the next is told `%load_ext durable_nb`, no
more. What is shown is read from the log's public views; executions are counted outside the log, by Python's `logging`.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

from durable_nb import Durable

NOTEBOOK = Path(__file__).with_name("03_fan_out.ipynb")
LOAD = "%load_ext durable_nb"
COUNTING = "__import__('logging').basicConfig(filename='executions.txt', format='%(name)s:%(message)s', level='INFO')"
PATIENCE_SECONDS = 120.0


def cells_to_run() -> list[str]:
    """Give the notebook's code up to the cell that starts the run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    last = next(number for number, cell in enumerate(cells) if "run" in cell.metadata.get("tags", []))
    return [cell.source for cell in cells[: last + 1]]


class Kernel:
    """A Jupyter kernel in a folder, told the notebook's name as Jupyter tells it."""

    def __init__(self, folder: Path) -> None:
        self._manager = KernelManager(kernel_name="python3")
        session = {**os.environ, "JPY_SESSION_NAME": str(folder / NOTEBOOK.name)}
        counting = [f"--IPKernelApp.exec_lines={COUNTING}"]
        with (folder / "kernel.log").open("a") as said:
            self._manager.start_kernel(cwd=str(folder), env=session, stdout=said, stderr=said, extra_arguments=counting)
        self.pid: int = self._manager.provisioner.pid  # type: ignore[union-attr]
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE_SECONDS)

    def execute(self, source: str) -> str:
        """Execute a cell; give what it printed."""
        said: list[dict[str, Any]] = []
        reply = self._client.execute_interactive(source, allow_stdin=False, timeout=PATIENCE_SECONDS, output_hook=said.append)
        if reply["content"]["status"] != "ok":
            sys.exit(f"failed: {reply['content'].get('ename')}: {reply['content'].get('evalue')} in the cell\n{source}")
        return "".join(message["content"].get("text", "") for message in said).strip()

    def kill(self) -> None:
        """End the process as a power cut would: no handler, no clean-up."""
        os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self.close(now=True)

    def close(self, *, now: bool = False) -> None:
        self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=now)


class Observer:
    """Reads the run from outside the kernel: its log, and the file of executions."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / NOTEBOOK.with_suffix(".durable.db").name
        self._executions = folder / "executions.txt"

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{self.log.as_uri()}?mode=ro", uri=True, timeout=30)) as log:
            return log.execute(sql).fetchall()

    def run(self) -> tuple[str, Any]:
        """Give the run's status, and its output or error."""
        [(status, outcome)] = self.read("SELECT status, coalesce(output, error, 'null') FROM v_runs WHERE key = 'airports'")
        return status, json.loads(outcome)

    def children(self) -> list[str]:
        return [group for (group,) in self.read("SELECT json_extract(input, '$.name') FROM v_runs WHERE task = 'score_group'")]

    def reports(self) -> dict[str, Any]:
        """Give, by group, the outputs of the children that have finished."""
        rows = self.read("SELECT output FROM v_runs WHERE task = 'score_group' AND status = 'COMPLETED'")
        return {report["group"]: report for report in (json.loads(output) for (output,) in rows)}

    def waits(self) -> str:
        return " or ".join(name for (name,) in self.read("SELECT name FROM v_waits ORDER BY node, kind"))

    def executions(self) -> Counter[str]:
        """Give how often the child of each group was entered."""
        return Counter(re.findall("^airports:score (.+)$", self._executions.read_text(), re.MULTILINE))


class Screen:
    """Lines for what has happened, and below them, on a terminal that can, a live one for what is."""

    def __init__(self, observer: Observer) -> None:
        self.console = Console(highlight=False)
        kernel, children = TextColumn("kernel {task.description}"), (BarColumn(16), MofNCompleteColumn(), TextColumn("children"))
        waits = TextColumn("{task.fields[waits]}", "magenta", markup=False, table_column=Column(no_wrap=True))
        self.progress = Progress(SpinnerColumn(), kernel, *children, waits, console=self.console, transient=True)
        self._line = self.progress.add_task("starts", total=None, waits="")
        self._observer, self._began = observer, time.monotonic()

    def say(self, text: str, style: str = "", *, kernel: str | None = None) -> None:
        self.progress.update(self._line, description=kernel)
        self.console.print(Text.assemble((f"{time.monotonic() - self._began:5.1f} s  ", "dim"), (text, style)), soft_wrap=True)

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Watch until something is so; fail if the run ends otherwise, or it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            (status, outcome), waits = self._observer.run(), self._observer.waits()
            total, completed = len(self._observer.children()) or None, len(self._observer.reports())
            self.progress.update(self._line, total=total, completed=completed, waits=waits and f"◌ waits for {waits}")
            if status in {"FAILED", "CANCELLED"} or time.monotonic() > deadline:
                sys.exit(f"failed: the run is {status}, not {what}: {outcome or 'it takes too long'}")
            time.sleep(0.02)


def play(folder: Path, screen: Screen, observer: Observer) -> tuple[set[str], Counter[str]]:
    """Play it all; give which children had finished when the kernel was killed, and the executions until then."""
    screen.say(f"kernel 1 starts in {folder}")
    with closing(Kernel(folder)) as kernel:
        for cell in cells_to_run():
            kernel.execute(cell)
        screen.say("the notebook's cells are executed, and its run is started", kernel="1 [green]● alive[/]")
        screen.until(lambda: len(observer.reports()) >= 19, "at work on the children")
        kernel.kill()
    finished, before = set(observer.reports()), observer.executions()
    screen.say(f"kill -9 {kernel.pid}, with {len(finished)} children finished", "bold red", kernel="1 [red]✗ killed[/]")
    with closing(Kernel(folder)) as kernel:
        screen.say(f"kernel 2 has started, and is told {LOAD}, no more", kernel="2 [green]● alive[/]")
        screen.say(kernel.execute(LOAD).splitlines()[0].rpartition(": ")[2], "dim")
        screen.until(lambda: "airports:decision" in observer.waits(), "waiting for a decision")
        answer(screen, observer)
        screen.until(lambda: observer.run()[0] == "COMPLETED", "completed")
    screen.say("the cool-down is over, and the run is completed", "bold green")
    return finished, before


def answer(screen: Screen, observer: Observer) -> None:
    """Decide as a person would, from another process than the kernel's."""
    doubts = [doubt for found in observer.reports().values() for doubt in found["doubts"]]
    screen.say(f"all children have finished; a person is asked about {len(doubts)} airports:")
    for doubt in doubts:
        screen.say(f"  {doubt['airport']['iata']} {doubt['why']} → {doubt['proposal']}", "dim")
    decisions = {doubt["airport"]["iata"]: doubt["proposal"] for doubt in doubts}
    with Durable(observer.log) as durable:
        pushed = durable.event.push("airports:decision", {"by": "Ada", "decisions": decisions})
    screen.say(f"Ada answers from another process; her event reaches {len(pushed.matched_runs)} run", "magenta")


def report(console: Console, observer: Observer, finished: set[str], before: Counter[str]) -> None:
    """Tell what came of it, and how often the children were executed; fail if one that had finished was executed again."""
    summary, after = observer.run()[1], observer.executions() - before
    console.print("{airports} airports left: {repaired} repaired, {dropped} dropped, decided by {decided_by}".format(**summary))
    console.print(f"table   {summary['table']}\nreport  {summary['report']}\nlog     {observer.log}\n", soft_wrap=True)
    again, wrong = after.keys() & before.keys(), after.keys() & finished
    counts = f"{before.total() + after.total()} executions ({before.total()} before the kill, {after.total()} after it)"
    repeated = f"{len(again)} repeated since in flight at the kill, {len(wrong)} that had finished"
    console.print(f"{len(observer.children())} children, {counts}: {repeated}", style="bold", soft_wrap=True)
    if wrong or before.keys() | after.keys() != set(observer.children()) or max((before | after).values()) > 1:
        sys.exit(f"failed: executed before the kill: {before}, after it: {after}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the airports notebook, and kill its kernel in the middle.")
    parser.add_argument("folder", nargs="?", type=Path, help="where to, a new or empty folder (default: a temporary one)")
    folder = (parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="airports-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    shutil.copy(NOTEBOOK, folder)
    screen = Screen(observer := Observer(folder))
    with screen.progress:
        finished, before = play(folder, screen, observer)
    report(screen.console, observer, finished, before)


if __name__ == "__main__":
    main()
