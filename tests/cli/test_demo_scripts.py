"""Every demo notebook as a script, run in a process of its own: what comes of it is what the notebook's own assertions say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vega_datasets import local_data

from durable_nb import Durable
from durable_nb.export.files import read_notebook
from durable_nb.export.script import export_to
from tests.cli.helpers import ROOT, Process, process, query, wait_until

pytestmark = pytest.mark.slow

Steps = Callable[[Durable], None]
FILES = Path(local_data.cars.filepath).parent
LOOK = """
import io, json, sys, zipfile
from pathlib import Path
from durable_nb.cli.files import load

durable, files, packed = load(Path(sys.argv[1])), Path(sys.argv[2]), io.BytesIO()
with zipfile.ZipFile(packed, "w") as archive:
    for name in ("barley.json", "stocks.csv"):
        archive.writestr(name, (files / name).read_bytes())
with durable:
    found = durable.tasks["explore"].run({"world": packed.getvalue(), "steps": 50})
print(json.dumps([[one.kind, one.said_by, one.table and one.table.rows] for one in found]))
"""


def pushes(key: str, payload: dict[str, object]) -> Steps:
    """A person who pushes an event when it is awaited."""

    def push(durable: Durable) -> None:
        wait_until(lambda: query(durable.path, "SELECT 1 FROM v_waits WHERE key = ?", key), what=f"the wait for {key}")
        assert len(durable.event.push(key, payload).matched_runs) == 1

    return push


def answers(count: int, answer: object) -> Steps:
    """A person who gives so many questions the same answer."""

    def answer_all(durable: Durable) -> None:
        wait_until(lambda: len(durable.inbox.list()) == count, what=f"{count} questions")
        for item in durable.inbox.list():
            durable.inbox.answer(item.id, answer, by="ada")

    return answer_all


def script_of(name: str, folder: Path) -> Path:
    """Export a demo to a script in the folder."""
    notebook, path = folder / f"{name}.ipynb", folder / f"{name}.py"
    notebook.write_bytes((ROOT / "notebooks" / notebook.name).read_bytes())
    export_to(path, read_notebook(notebook), notebook)
    return path


def result_of(run: Process, path: Path, *steps: Steps) -> Any:
    """Give what a script prints in the end, when its log has been told what it waits for."""
    log = path.with_suffix(".durable.db")
    if steps:
        wait_until(lambda: query(log, "SELECT 1 FROM v_runs"), what="the run")
        with Durable(log) as durable:
            for step in steps:
                step(durable)
    return json.loads(run.end())


def run_script(name: str, task: str, value: object, folder: Path, *steps: Steps) -> Any:
    """Run a task of a demo's script; give its output."""
    path = script_of(name, folder)
    with process("run", task, json.dumps(value), command=(sys.executable, path.name), folder=folder) as run:
        return result_of(run, path, *steps)


def test_all_demos_are_here() -> None:
    names = [path.stem.partition("_")[0] for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert names == ["01", "02", "03", "04", "05", "06"]


def test_five_minutes(folder: Path) -> None:
    result = run_script("01_five_minutes", "review", ["a b", "c"], folder, pushes("review:done", {"stars": 5}))
    assert result["counts"] == [2, 1]
    assert result["decision"] == {"review:done": [{"stars": 5}]}


def test_approval(folder: Path) -> None:
    job = {"path": str(FILES / "cars.json")}
    filled = run_script("02_approval", "fill_gaps", job, folder, answers(6, {"accept": True}))
    assert {one["name"]: one["horsepower"] for one in filled}["ford pinto"] == 65
    assert len(filled) == 6


def test_fan_out(folder: Path) -> None:
    job = {"path": str(FILES / "airports.csv"), "folder": str(folder / "cleaned"), "patience": 1, "cool_down": 0}
    summary = run_script("03_fan_out", "clean_airports", job, folder)
    assert (summary["repaired"], summary["dropped"], summary["airports"]) == (12, 8, 3_368)
    assert Path(summary["table"]).read_text(encoding="utf-8").count("\n") == 3_369


def test_agent(folder: Path) -> None:
    """Its input holds bytes, which a command line cannot; another program imports the script."""
    path = script_of("04_agent", folder)
    with process(LOOK, path.name, str(FILES), command=(sys.executable, "-c"), folder=folder) as run:
        found = result_of(run, path, answers(1, "json"))
    assert found == [["zip", "model", None], ["json", "a person", 120], ["csv", "model", 560]]


def test_crash_and_resume(folder: Path) -> None:
    assert run_script("05_crash_and_resume", "primes", 600, folder)["primes"] == 109


def test_edit_a_running_task(folder: Path) -> None:
    """Of the three versions in the notebook the script has the last."""
    paid = pushes("paid", {"customer": "ada", "amount": 40})
    result = run_script("06_edit_a_running_task", "invoice", {"customer": "ada"}, folder, paid)
    assert result["sent"] == "sent to ada"
    assert result["amount"] == 40
    assert "checked" in result
