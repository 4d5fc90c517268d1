"""Exported scripts: what is in them, what is left out, and what is refused."""

from __future__ import annotations

import ast
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_nb import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Cron,
    DefaultFilter,
    EvictionPolicy,
    RateLimit,
    TTLBasedIdempotencyConfig,
)
from durable_nb.export.cells import ExportError
from durable_nb.export.options import arguments_of, imports_for
from durable_nb.export.script import Script, export, export_to
from durable_nb.tasks.options import make_options


def notebook(*cells: str) -> dict[str, Any]:
    """A notebook of cells; one that begins with ``md:`` is Markdown."""
    return {
        "cells": [
            {"cell_type": "markdown", "source": cell[3:]} if cell.startswith("md:") else {"cell_type": "code", "source": cell}
            for cell in cells
        ]
    }


def exported(*cells: str, **options: Any) -> Script:
    script = export(notebook(*cells), log="log.db", **options)
    ast.parse(script.text)
    return script


TASK = "%%task --retries 3\nimport math\n\n\ndef root(input: float, ctx):\n    return math.sqrt(input)"


def test_a_task_cell_becomes_a_decorated_function() -> None:
    script = exported("md:# Roots\n\nOf numbers.", "%load_ext durable_nb", TASK, "handle = %durable run root 4", "await handle")
    assert script.text.startswith('"""Roots.\n\nOf numbers.\n"""\n')
    assert "@durable.task(retries=3)\ndef root(input: float, ctx):\n    return math.sqrt(input)\n" in script.text
    assert 'durable = Durable(Path(__file__).with_name("log.db"))' in script.text
    assert "await handle" not in script.text
    assert "get_ipython" not in script.text
    assert (script.tasks, script.left_out) == (("root",), (2, 4, 5))


def test_what_a_task_needs_comes_with_it_and_nothing_else() -> None:
    text = exported(
        "import json, csv\nfrom os import path, sep",
        "LIMIT = 3  # of tries\nUNUSED = 4",
        "# how it is said\ndef say(text):\n    return json.dumps(text) + SUFFIX",
        "SUFFIX = sep",
        "def other():\n    return csv",
        "%%durable_task\nasync def talk(input, ctx):\n    return say(input * LIMIT)",
    ).text
    assert "import json\n" in text
    assert "from os import sep\n" in text
    assert "csv" not in text
    assert "LIMIT = 3  # of tries\n" in text
    assert "UNUSED" not in text
    assert "# how it is said\ndef say(text):" in text
    assert "SUFFIX = sep" in text


def test_a_function_defined_twice_is_there_once_as_it_was_last() -> None:
    text = exported("def help(): return 1", "def help(): return 2", "%%task\ndef f(input, ctx): return help()").text
    assert text.count("def help") == 1
    assert "return 2" in text


def test_a_local_name_brings_no_statement_of_that_name() -> None:
    text = exported("name = open('secret')", "%%task\ndef f(input, ctx):\n    name = 1\n    return [name for name in input]").text
    assert "secret" not in text


def test_changes_to_what_is_needed_come_along() -> None:
    text = exported("config = {}", "config['depth'] = 2", "%%task\ndef f(input, ctx): return config['depth']").text
    assert "config['depth'] = 2" in text or 'config["depth"] = 2' in text


def test_tasks_of_decorators_are_found_and_their_app_is_kept() -> None:
    script = exported(
        "from durable_nb import Durable\ndurable = Durable('mine.db')", "@durable.task()\ndef f(input, ctx): return 1"
    )
    assert "with_name" not in script.text
    assert "mine.db" in script.text
    assert script.tasks == ("f",)


def test_annotations_in_quotes_count() -> None:
    text = exported("class Model: ...", "%%task\ndef f(input: 'Model', ctx): return 1").text
    assert "class Model" in text


def test_exploring_cells_come_where_they_are_asked_for() -> None:
    cells = ("import statistics", TASK, "statistics.mean([1, 2])", "answer = await root.aio_run(4)")
    assert "statistics" not in exported(*cells).text
    text = exported(*cells, explore=True).text
    assert "async def explore() -> None:" in text
    assert "    statistics.mean([1, 2])" in text
    assert "import statistics" in text


def test_what_explores_comes_without_what_magics_made() -> None:
    cells = (
        TASK,
        "handle = %durable run root 4",
        "result = await handle",
        "shown = result",
        "display(1)",
        "text = '''a\n  b\n'''\nprint(text)",
    )
    text = exported(*cells, explore=True).text
    assert "handle" not in text and "result" not in text and "shown" not in text and "display" not in text
    assert '    text = """a\n  b\n"""\n    print(text)' in text


def test_names_that_the_notebook_means_otherwise_stay_its_own() -> None:
    text = exported(
        "from os import PathLike as Path\ndef main(x): return x", "%%task\ndef f(input: 'Path', ctx): return main(1)"
    ).text
    assert "from durable_nb.cli import main as durable_main" in text
    assert "from pathlib import Path as durable_path" in text
    assert text.endswith("    durable_main(durable)\n")
    compile(text, "script", "exec")


def test_what_is_executed_on_import_is_said() -> None:
    script = exported(
        "import pandas, re",
        "table = pandas.read_csv('big.csv')\nWORD = re.compile('x')",
        "%%task\ndef f(input, ctx): return table, WORD",
    )
    assert script.on_import == ("table (cell 2)",)
    assert "executed when the script is imported, since tasks need it: table (cell 2)" in script.said()


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (("1 + 1",), "declares no task"),
        (("def f(:",), "Cell 1 is no Python"),
        (("x = !ls", "%%task\ndef f(input, ctx): return x"), "needs x, which a magic makes in cell 1"),
        (("x = await y()", "%%task\ndef f(input, ctx): return x"), "needs x, for which cell 1 awaits"),
        (("%%task\ndef f(i, c): ...\ndef g(i, c): ...",), "cannot be told"),
    ],
    ids=["no task", "no python", "magic", "await", "which"],
)
def test_what_cannot_be_exported_is_said(cells: tuple[str, ...], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        exported(*cells)


def test_hostile_prose_stays_prose() -> None:
    text = exported('md:# """; raise SystemExit #\n\\N{nothing} \\', TASK).text
    assert "raise SystemExit" in (ast.get_docstring(ast.parse(text)) or "")


def test_every_option_can_be_said_as_a_decorator() -> None:
    options = make_options(
        "durable_task",
        {
            "retries": 2,
            "execution_timeout": "90s",
            "deadline": 0.5,
            "eviction_policy": EvictionPolicy(ttl=timedelta(seconds=1), priority=3),
            "concurrency": ConcurrencyExpression("input.id", 2, ConcurrencyLimitStrategy.CANCEL_NEWEST),
            "rate_limits": [RateLimit(static_key="api", units=2)],
            "idempotency": TTLBasedIdempotencyConfig("input.id", ttl=timedelta(minutes=1)),
            "on_events": ["a:*"],
            "default_filters": [DefaultFilter("input.x > 1", payload={"y": [1, None]})],
            "on_crons": [Cron("0 9 * * *", timezone="Europe/Rome", input={"a": True})],
            "default_additional_metadata": {"team": "red"},
        },
    )
    text = f"make_options('durable_task', dict({arguments_of(options)}))"
    namespace: dict[str, Any] = {"make_options": make_options}
    exec("\n".join(imports_for(text)), namespace)
    assert eval(text, namespace) == options


def test_a_log_that_the_notebook_opens_is_the_scripts(tmp_path: Path) -> None:
    opening = notebook("%durable open logs/other.db", TASK)
    script = export_to(None, opening, tmp_path / "n.ipynb")
    assert 'Durable(Path(__file__).parent / "logs/other.db")' in script.text
    assert 'with_name("n.durable.db")' in export_to(None, notebook(TASK), tmp_path / "n.ipynb").text
    (tmp_path / "src").mkdir()
    elsewhere = export_to(tmp_path / "src" / "n.py", notebook(TASK), tmp_path / "n.ipynb").text
    assert 'Path(__file__).parent / "../n.durable.db"' in elsewhere


def test_without_ruff_the_script_is_as_written_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "prefix", "/none")
    script = exported(TASK)
    assert not script.is_formatted
    assert "ruff is not installed" in script.said()
    compile(script.text, "script", "exec")


WORKFLOW = """%%workflow etl --retries 1 --cron "0 9 * * *"
from durable_nb import DurableContext


def helper(x):
    return x


def extract(input: dict, ctx) -> list:
    return [helper(1)]


@task(parents=[extract], retries=2)
def load(input: dict, ctx) -> int:
    return len(ctx.task_output(extract))


async def wait(input: dict, ctx: DurableContext) -> None: ...


@etl.on_failure_task()
def mend(input: dict, ctx) -> None: ..."""


def test_a_workflow_cell_becomes_a_workflow_of_decorators() -> None:
    script = exported(WORKFLOW)
    assert 'etl = durable.workflow(name="etl", retries=1, on_crons=[Cron(expression="0 9 * * *")])' in script.text
    for lines in (
        "@etl.task()\ndef extract(",
        "@etl.task(parents=[extract], retries=2)\ndef load(",
        "@etl.durable_task()\nasync def wait(",
        "@etl.on_failure_task()\ndef mend(",
        "\ndef helper(x):",
        "from durable_nb import Cron, Durable, DurableContext",
    ):
        assert lines in script.text
    assert script.tasks == ("etl", "extract", "load", "wait", "mend")


def test_a_tasks_own_name_and_options_are_said() -> None:
    text = exported(
        '%%task f --name "my f" --description "Does." --concurrency 2 --execution-timeout 10m\ndef f(input, ctx): ...'
    ).text
    assert 'name="my f",\n    description="Does.",' in text
    assert 'execution_timeout="10m"' in text and "concurrency=[ConcurrencyExpression(" in text
