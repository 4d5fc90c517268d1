"""A model of the notebook is one class, in whichever task or cell it is used, before a restart and after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_nb import TaskRunError
from tests.notebook.helpers import Shell

MODELS = (
    "from pydantic import BaseModel\n"
    "SCALE = 1\n"
    "class Part(BaseModel):\n    n: int\n    def size(self): return self.n * SCALE\n"
    "class Whole(BaseModel):\n    parts: list[Part]\n"
)
PART = "%%task\ndef part(input: int, ctx) -> Part:\n    return Part(n=input)\n"
WHOLE = (
    "%%durable_task\nasync def whole(input: int, ctx) -> Whole:\n"
    "    return Whole(parts=[await part.aio_run(n) for n in range(input)])\n"
)


@pytest.fixture
def cells(shell: Shell) -> Shell:
    for cell in (MODELS, PART, WHOLE):
        shell.cell(cell)
    return shell


def test_a_task_may_put_a_childs_model_into_its_own(cells: Shell) -> None:
    assert [item.n for item in cells.cell("%durable run whole 3 --wait").result.parts] == [0, 1, 2]


def test_a_cell_gets_instances_of_the_cells_classes(cells: Shell) -> None:
    cells.cell("one = part.run(1)\nall_of_them = whole.run(2)")
    assert cells.cell("isinstance(one, Part), one == Part(n=1), isinstance(all_of_them, Whole)").result == (True, True, True)
    assert cells.cell("Whole(parts=[one]).parts[0].size()").result == 1


def test_it_is_so_after_a_restart(cells: Shell, folder: Path) -> None:
    cells.cell("%unload_ext durable_nb")
    for name in ("part", "whole", "Part", "Whole", "SCALE"):
        cells.names.pop(name, None)
    cells.load()
    assert [item.n for item in cells.cell("%durable run whole 2 --wait").result.parts] == [0, 1]


def test_a_class_that_reads_something_else_is_another_class(cells: Shell) -> None:
    cells.cell("SCALE = 1000")
    cells.cell("%%task\ndef big(input: int, ctx) -> int:\n    return Part(n=input).size()\n")
    cells.cell("%%task\ndef small(input: int, ctx) -> int:\n    return input\n")
    assert cells.cell("%durable run big 2 --wait").result == 2000
    cells.cell(
        "%%durable_task\nasync def mixed(input: int, ctx) -> Whole:\n    return Whole(parts=[await part.aio_run(input)])\n"
    )
    assert isinstance(cells.try_cell("%durable run mixed 1 --wait").error, TaskRunError)
