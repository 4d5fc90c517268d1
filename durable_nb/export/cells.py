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
from durable_nb.export.statements import APP, FunctionNode, Statement, split
from durable_nb.tasks.options import make_options

CELL_MAGIC = re.compile(r"%%(?P<magic>\w+)(?P<line>.*)")
OPEN_MAGIC = re.compile(r"^%durable\s+open\s+(?P<path>\S.*?)\s*$", re.MULTILINE)
KINDS = ("task", "durable_task")
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
    from IPython.core.inputtransformer2 import TransformerManager

    magic = CELL_MAGIC.match(source.lstrip())
    if magic and magic["magic"] not in KINDS:
        return []  # another language, or a timing: it declares nothing
    if magic:
        source = source.lstrip().partition("\n")[2]
    try:
        found = split(TransformerManager().transform_cell(source), cell, heading)  # type: ignore[no-untyped-call]
    except SyntaxError as error:
        raise ExportError(f"Cell {cell} is no Python (line {error.lineno}: {error.msg}): mend it, then export.") from None
    return _decorated(found, magic["magic"], magic["line"], cell) if magic else found


def _decorated(found: list[Statement], kind: str, line: str, cell: int) -> list[Statement]:
    """Give the statements of a task cell, its function with the decorator that says what the magic's line says."""
    wanted, options = _options(kind, line, cell)
    functions = [(item, item.node) for item in found if isinstance(item.node, FunctionNode) and wanted in (None, item.node.name)]
    candidates = [(item, node) for item, node in functions if isinstance(node, ast.AsyncFunctionDef)] or functions
    if len(candidates) > 1:
        candidates = [(item, node) for item, node in candidates if len(node.args.args) == 2]
    if len(candidates) != 1:
        raise ExportError(f"Cell {cell} is under %%{kind}, but which of its functions is the task cannot be told: name it there.")
    decorator = f"{APP}.{kind}({options})"
    imports = split("\n".join(imports_for(decorator)), cell)
    return [*imports, *(replace(item, decorator=f"@{decorator}") if item is candidates[0][0] else item for item in found)]


def _options(kind: str, line: str, cell: int) -> tuple[str | None, str]:
    """Give the function that a magic's line names, and its options as keyword arguments: ``--retries 3`` is ``retries=3``."""
    from IPython.core.error import UsageError

    from durable_nb.notebook.arguments import task_parser

    try:
        given = vars(task_parser(kind).parse(line))
        wanted = given.pop("function")
        return wanted, arguments_of(make_options(kind, given))  # type: ignore[arg-type]
    except (UsageError, DurableError) as error:
        raise ExportError(f"Cell {cell}: {error}") from None
