"""The cells of a notebook as statements: magics become decorators, and what is no Python is left out.

Nothing is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from durable_nb.errors import DurableError
from durable_nb.export.options import arguments_of, imports_for
from durable_nb.export.statements import APP, DECLARING, FunctionNode, Statement, split
from durable_nb.notebook.cells import takes_context

CELL_MAGIC = re.compile(r"%%(?P<magic>\w+)(?P<line>.*)")
OPEN_MAGIC = re.compile(r"^%durable\s+open\s+(?P<path>\S.*?)\s*$", re.MULTILINE)
KINDS = ("task", "durable_task")
WORKFLOW = "workflow"
LOG_SUFFIX = ".durable.db"


class ExportError(DurableError, ValueError):
    """The notebook cannot be written as a script; the message names the cell and what to do."""


def log_of(notebook: Mapping[str, Any], path: Path) -> str:
    """Give the log of a notebook: the one that it opens, else the one beside it."""
    opened = [
        match["path"] for cell in notebook["cells"] if cell["cell_type"] == "code" for match in OPEN_MAGIC.finditer(_text(cell))
    ]
    return opened[-1].strip("'\"") if opened else path.with_suffix(LOG_SUFFIX).name


def read(notebook: Mapping[str, Any]) -> tuple[list[Statement], str]:
    """Give the statements of all code cells, and the text of the first Markdown."""
    statements, prose, heading = list[Statement](), "", None
    for number, cell in enumerate(notebook.get("cells", ()), start=1):
        source = _text(cell)
        if cell["cell_type"] == "markdown":
            prose = prose or source
            heading = next((line.lstrip("# ") for line in source.splitlines() if line.startswith("#")), heading)
        elif cell["cell_type"] == "code":
            statements += _statements(source, number, heading)
    return statements, prose


def _text(cell: Mapping[str, Any]) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _statements(source: str, cell: int, heading: str | None) -> list[Statement]:
    from IPython.core.error import UsageError
    from IPython.core.inputtransformer2 import TransformerManager

    magic = CELL_MAGIC.match(source.lstrip())
    kind, line = (magic["magic"], magic["line"]) if magic else ("", "")
    if magic and kind not in (*KINDS, WORKFLOW):
        return []  # another language, or a timing: it declares nothing
    if magic:
        source = source.lstrip().partition("\n")[2]
    try:
        python = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
        if kind == WORKFLOW:
            return split(workflow_source(python, line), cell, heading)
        found = split(python, cell, heading)
        return _decorated(found, kind, line, cell) if magic else found
    except SyntaxError as error:
        raise ExportError(f"Cell {cell} is no Python (line {error.lineno}: {error.msg}): mend it, then export.") from None
    except ExportError:
        raise
    except (UsageError, DurableError) as error:
        raise ExportError(f"Cell {cell}: {error}") from None


def _decorated(found: list[Statement], kind: str, line: str, cell: int) -> list[Statement]:
    """Give the statements of a task cell, its function with the decorator that says what the magic's line says."""
    from durable_nb.notebook.options import options_of, task_parser

    given = vars(task_parser(kind).parse(line))  # type: ignore[arg-type]
    wanted = given.pop("function")
    named = [f"{word}={given.pop(word)!r}" for word in ("name", "description") if word in given]
    functions = [(item, item.node) for item in found if isinstance(item.node, FunctionNode) and wanted in (None, item.node.name)]
    candidates = [(item, node) for item, node in functions if isinstance(node, ast.AsyncFunctionDef)] or functions
    if len(candidates) > 1:
        candidates = [(item, node) for item, node in candidates if takes_context(node)] or candidates
    if len(candidates) != 1:
        raise ExportError(f"Cell {cell} is under %%{kind}, but which of its functions is the task cannot be told: name it there.")
    options = arguments_of(options_of(kind, given, {}, form=f"%%{kind}"))  # type: ignore[arg-type]
    decorator = f"{APP}.{kind}({', '.join([*named, *filter(None, [options])])})"
    imports = split("\n".join(imports_for(decorator)), cell)
    return [*imports, *(replace(item, decorator=f"@{decorator}") if item is candidates[0][0] else item for item in found)]


# ---------------------------------------------------------------- workflows


def workflow_source(python: str, line: str) -> str:
    """Give the source of a workflow's cell as plain Python: it declares the workflow, and its functions say that they are tasks.

    >>> print(workflow_source("def load(input, ctx): ...", " etl"))
    etl = durable.workflow(name='etl')
    @etl.task()
    def load(input, ctx): ...
    """
    from durable_nb.notebook.options import options_of, workflow_parser

    given = vars(workflow_parser().parse(line))
    name = given.pop("name")
    said = [f"description={given.pop('description')!r}"] if "description" in given else []
    options = arguments_of(options_of("durable_task", given, {}, form="%%workflow"))
    declared = f"{name} = {APP}.workflow({', '.join([f'name={name!r}', *said, *filter(None, [options])])})"
    lines = python.splitlines()
    for node in reversed([node for node in ast.parse(python).body if isinstance(node, FunctionNode)]):
        _say_task(lines, node, name)
    return "\n".join([*imports_for(declared), declared, *lines])


def _say_task(lines: list[str], node: FunctionNode, workflow: str) -> None:
    """Write into a cell's lines that a function is a task of the workflow, by its decorator's full name, or by one above it."""
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Name) and target.id in DECLARING:
            raw = lines[target.lineno - 1].encode()
            lines[target.lineno - 1] = (raw[: target.col_offset] + f"{workflow}.".encode() + raw[target.col_offset :]).decode()
            return
        if isinstance(target, ast.Attribute) and target.attr in DECLARING:
            return
    if takes_context(node):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        hint = node.args.args[-1].annotation if node.args.args else None
        is_durable = hint is not None and ast.unparse(hint).strip("'\"").endswith("DurableContext")
        lines.insert(first - 1, f"@{workflow}.{'durable_task' if is_durable else 'task'}()")
