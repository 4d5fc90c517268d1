"""Leaving the notebook: a run that began in a kernel ends in a script's worker, and the other way round, all real processes.

Whatever the log has is not executed again, and every task has one version, in the notebook, in the script and in the log.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import command, process, query, wait_until
from tests.notebook.helpers import Kernel

pytestmark = pytest.mark.slow

CELLS = [
    "md:# A trip\n\nIn steps.",
    "%load_ext durable_nb",
    "from pathlib import Path\n\nfrom pydantic import BaseModel\n\nCOUNTS = 'counts.txt'\nUNIT = {'km': 1.0}",
    "def count(what: str) -> str:\n    with open(COUNTS, 'a') as file:\n        file.write(f'{what}\\n')\n    return what",
    "class Leg(BaseModel):\n    number: int\n    unit: str = 'km'",
    "%%task --retries 2\ndef leg(input: Leg, ctx) -> float:\n    '''Go.\n\n    On.\n    '''\n    count(f'leg {input.number}')\n"
    "    return input.number*UNIT[input.unit]",
    "%%durable_task\nfrom durable_nb import DurableContext\n\nasync def trip(input: int, ctx: DurableContext) -> float:\n"
    "    await ctx.aio_memo(count, str, 'memo')\n"
    "    legs = await leg.aio_run_many([leg.create_bulk_run_item(Leg(number=n)) for n in range(input)])\n"
    "    toll = await ctx.aio_wait_for_event('toll', 'input.paid > 0')\n"
    "    return sum(legs) + toll['paid'] + await leg.aio_run(Leg(number=input))",
    "handle = %durable run trip 3",
]
DEFINING = CELLS[1:-1]
EXECUTED = ["leg 0", "leg 1", "leg 2", "leg 3", "memo"]
RESULT = 0 + 1 + 2 + 3 + 10


def cell(source: str) -> dict[str, Any]:
    if source.startswith("md:"):
        return {"cell_type": "markdown", "metadata": {}, "source": source[3:]}
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


@pytest.fixture
def notebook(folder: Path) -> Path:
    path = folder / "trip.ipynb"
    path.write_text(json.dumps({"cells": list(map(cell, CELLS)), "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


@pytest.fixture
def log(notebook: Path) -> Path:
    return notebook.with_suffix(".durable.db")


@contextmanager
def kernel(notebook: Path) -> Iterator[Kernel]:
    made = Kernel(notebook.parent, environment={"JPY_SESSION_NAME": str(notebook)})
    try:
        yield made
    finally:
        made.shut_down(now=True)


def waits(log: Path) -> bool:
    return bool(query(log, "SELECT 1 FROM v_waits WHERE key = 'toll'"))


def begin_in_kernel(notebook: Path, log: Path) -> None:
    """Run the notebook in a kernel, and kill it where the run waits."""
    with kernel(notebook) as made:
        for source in CELLS[1:]:
            made.cell(source)
        wait_until(lambda: waits(log), what="the toll")
        made.kill()


def check(log: Path) -> None:
    """See that the run has ended as it should, that nothing was done twice, and that each task has one version."""
    assert query(log, "SELECT status, output FROM v_runs WHERE task = 'trip'") == [("COMPLETED", json.dumps(float(RESULT)))]
    assert sorted((log.parent / "counts.txt").read_text().splitlines()) == EXECUTED
    versions = query(log, "SELECT task, count(DISTINCT version), max(length(version)) FROM run GROUP BY task ORDER BY task")
    assert versions == [("leg", 1, 16), ("trip", 1, 16)]
    kept = query(log, "SELECT task, version FROM definition")
    assert set(kept) == set(query(log, "SELECT DISTINCT task, version FROM run")), "and it is the notebook's"


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param((sys.executable, "trip.py", "worker"), id="the exported script"),
        pytest.param((sys.executable, "-m", "durable_nb", "worker", "trip.ipynb"), id="the notebook, without Jupyter"),
        pytest.param((sys.executable, "-m", "durable_nb.cli", "worker", "--log", "trip.durable.db"), id="what the log holds"),
    ],
)
def test_what_a_killed_kernel_began_a_worker_ends(worker: tuple[str, ...], notebook: Path, log: Path) -> None:
    begin_in_kernel(notebook, log)
    command("export", "trip.ipynb")
    with process("--until-done", command=worker, folder=notebook.parent) as made:
        made.until("serving ")
        assert len(command("emit", "toll", '{"paid": 10}').stdout.splitlines()) == 1
        made.end()
    check(log)


def test_what_a_killed_script_began_a_notebook_ends(notebook: Path, log: Path) -> None:
    command("export", "trip.ipynb")
    with process("run", "trip", "3", command=(sys.executable, "trip.py"), folder=notebook.parent) as script:
        wait_until(lambda: waits(log), what="the toll")
        script.tell(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    with kernel(notebook) as made:
        for source in DEFINING:
            made.cell(source)
        assert "reached 1 run" in made.cell('%durable emit toll {"paid": 10}').text
        wait_until(lambda: query(log, "SELECT 1 FROM v_runs WHERE task = 'trip' AND status = 'COMPLETED'"), what="the end")
    check(log)


def test_the_notebook_is_exported_by_nbconvert_too(notebook: Path) -> None:
    from durable_nb.export.nbconvert import DurableScriptExporter

    text, resources = DurableScriptExporter().from_filename(str(notebook))  # type: ignore[no-untyped-call]
    assert resources["output_extension"] == ".py"
    command("export", "trip.ipynb")
    assert str(text) == notebook.with_suffix(".py").read_text()
