"""Tasks of a notebook run in other processes, with what their cells gave them, before a restart and after it."""

from __future__ import annotations

import os

from tests.notebook.helpers import Shell

MODEL = (
    "from pydantic import BaseModel\nfrom durable_nb import Context\nFACTOR = 10\n"
    "class Point(BaseModel):\n    x: int\n    y: int = 2\n"
    "def scaled(point: Point) -> Point:\n    return Point(x=point.x * FACTOR, y=point.y)\n"
)
TASK = (
    "import os\n"
    '@durable.task(executor="process")\n'
    "def scale(input: Point, ctx: Context) -> Point:\n"
    '    print("printed in", os.getpid())\n'
    "    return scaled(input)\n"
)


def test_a_cells_function_works_elsewhere_with_its_models_helpers_and_constants(shell: Shell) -> None:
    shell.cell(MODEL)
    shell.cell(TASK)
    assert shell.cell("scale.run(Point(x=4))").result.x == 40
    assert shell.cell("isinstance(scale.run(Point(x=4)), Point)").result is True
    shell.cell("%unload_ext durable_nb")
    for name in ("scale", "Point", "scaled", "FACTOR"):
        shell.names.pop(name)
    shell.load()
    output = shell.cell("ref = scale.run({'x': 5}, wait_for_result=False)\nref.result().x")
    assert output.result == 50
    [line] = shell.cell("durable.runs.logs(ref)").result
    assert line.text.startswith("printed in ")
    assert line.text != f"printed in {os.getpid()}"


def test_an_error_shows_the_line_of_the_cell(shell: Shell) -> None:
    shell.cell("%%task --executor process\ndef fails(input: int, ctx):\n    return 1 // input\n")
    output = shell.try_cell("fails.run(0)")
    assert "ZeroDivisionError" in output.text
    assert "return 1 // input" in output.error.trace  # type: ignore[union-attr]


def test_the_line_of_a_cell_names_executor_and_resources(shell: Shell) -> None:
    shell.cell('%%task --executor dask --resources {"GPU": 1}\ndef trains(input: int, ctx):\n    return 1\n')
    options = shell.cell("trains.options").result
    assert (options.executor, options.resources) == ("dask", {"GPU": 1})
    assert "give a dict" in shell.usage_error("%%task --executor dask --resources 1\ndef trains(input: int, ctx): ...\n")
