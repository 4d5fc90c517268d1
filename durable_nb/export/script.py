"""A notebook as a Python script: its tasks and what they need, with decorators in place of magics.

Nothing runs when the script is imported but definitions; ``python script.py --help`` tells what it can do. Cells that only
explore are left out, or put into a function where they are asked for.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from durable_nb.errors import DurableError
from durable_nb.export.imports import Imports
from durable_nb.export.statements import APP, MAGIC, FunctionNode, Statement, needed, split

CELL_MAGIC = re.compile(r"%%(?P<magic>\w+)(?P<line>.*)")
OPEN_MAGIC = re.compile(r"^%durable\s+open\s+(?P<path>\S.*?)\s*$", re.MULTILINE)
KINDS = ("task", "durable_task")
LOG_SUFFIX = ".durable.db"
FORMAT_SECONDS = 60


class ExportError(DurableError, ValueError):
    """The notebook cannot be written as a script; the message names the cell and what to do."""


@dataclass(frozen=True)
class Script:
    """What was exported.

    Attributes:
        text: the script.
        tasks: the names of the functions that are tasks.
        left_out: the numbers of the code cells of which nothing is in it.
        is_formatted: whether ruff was there to format it.
    """

    text: str
    tasks: tuple[str, ...]
    left_out: tuple[int, ...]
    is_formatted: bool

    def said(self) -> str:
        """Say what is in the script and what is not, for the person."""
        lines = [f"tasks: {', '.join(self.tasks)}"]
        if self.left_out:
            lines.append(f"cells left out, since no task needs them: {', '.join(map(str, self.left_out))}")
        if not self.is_formatted:
            lines.append("It is not formatted: ruff is not installed (pip install 'durable_nb[export]').")
        return "\n".join(lines)


def export(notebook: Mapping[str, Any], *, log: str, name: str = "notebook", explore: bool = False) -> Script:
    """Write a notebook as a script.

    Args:
        notebook: its JSON (nbformat 4).
        log: the log's file name, beside the script, that the script works on unless it is told another.
        name: the notebook's name, for a title where it has no Markdown.
        explore: put the cells that only explore into a function ``explore()``.

    Raises:
        ExportError: it declares no task, is no Python, or a task needs what a magic made.
    """
    statements, prose = _read(notebook)
    if not any(statement.is_task for statement in statements):
        raise ExportError("The notebook declares no task: there is nothing to export. A cell under %%durable_task makes one.")
    wanted = needed(statements)
    for statement in wanted:
        if MAGIC in statement.reads:
            names = ", ".join(sorted(statement.binds))
            raise ExportError(
                f"A task needs {names}, which a magic makes in cell {statement.cell}: give it a value in plain Python there, "
                "or pass it as input."
            )
    used = {name for statement in wanted if not statement.is_import for name in statement.reads}
    rest = _explored(statements, wanted) if explore else []
    used |= {name for statement in rest for name in statement.reads}
    imports = Imports()
    for statement in [*wanted, *rest]:
        if statement.is_import:
            imports.add(statement.node, used)
    body = [statement for statement in wanted if not statement.is_import]
    lines = list[str]()
    if not any(APP in statement.binds for statement in body):
        imports.add(ast.parse("from pathlib import Path").body[0])
        imports.add(ast.parse("from durable_nb import Durable").body[0])
        place = f"Path({log!r})" if Path(log).is_absolute() else f"Path(__file__).parent / {log!r}"
        lines.append(f"{APP} = Durable({place})")
    imports.add(ast.parse("from durable_nb.cli import main").body[0])
    lines += [*_written(body), *_exploration(rest)]
    lines.append(f'\n\nif __name__ == "__main__":\n    main({APP})\n')
    text, is_formatted = _formatted("\n".join([_docstring(prose, name), "", *imports.lines(), "", *lines]))
    cells = {statement.cell for statement in statements}
    return Script(
        text=text,
        tasks=tuple(_task_name(statement) for statement in wanted if statement.is_task),
        left_out=tuple(sorted(cells - {statement.cell for statement in [*wanted, *rest]})),
        is_formatted=is_formatted,
    )


def export_to(
    target: Path | None, notebook: Mapping[str, Any], path: Path, *, explore: bool = False, is_forced: bool = False
) -> Script:
    """Write a notebook's script into a file; only give it, where that is None. It works on the notebook's log.

    Args:
        path: the notebook's.
        is_forced: write over a file that is there.

    Raises:
        ExportError: the file is there, or the notebook cannot be written as a script. OSError: the file cannot be written.
    """
    if target is not None and target.exists() and not is_forced:
        raise ExportError(f"{target} is there already: name another file, or say --force to write over it.")
    script = export(notebook, log=log_of(notebook, path), name=path.stem, explore=explore)
    if target is not None:
        target.write_text(script.text, encoding="utf-8")
    return script


def log_of(notebook: Mapping[str, Any], path: Path) -> str:
    """Give the log of a notebook: the one that it opens, else the one beside it."""
    opened = [
        match["path"] for cell in notebook["cells"] if cell["cell_type"] == "code" for match in OPEN_MAGIC.finditer(_text(cell))
    ]
    return opened[-1].strip("'\"") if opened else path.with_suffix(LOG_SUFFIX).name


# ---------------------------------------------------------------- reading


def _read(notebook: Mapping[str, Any]) -> tuple[list[Statement], str]:
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
    decorator = f"@{APP}.{kind}({options})"
    return [replace(item, decorator=decorator) if item is candidates[0][0] else item for item in found]


def _options(kind: str, line: str, cell: int) -> tuple[str | None, str]:
    """Give the function that a magic's line names, and its options as keyword arguments: ``--retries 3`` is ``retries=3``."""
    from IPython.core.error import UsageError

    from durable_nb.notebook.arguments import task_parser

    parser = task_parser(kind)
    try:
        given = vars(parser.parse(line))
    except UsageError as error:
        raise ExportError(f"Cell {cell}: {error}") from None
    wanted = given.pop("function")
    return wanted, ", ".join(f"{name}={value!r}" for name, value in given.items() if value != parser.get_default(name))


# ---------------------------------------------------------------- writing


def _docstring(prose: str, name: str) -> str:
    text = prose.strip() or f"The tasks of {name}."
    lines = [line.lstrip("# ") if line.startswith("#") else line.rstrip() for line in text.splitlines()]
    if not lines[0].endswith((".", "!", "?", ":")):
        lines[0] += "."
    body = "\n".join(lines).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{body}"""' if len(lines) == 1 else f'"""{body}\n"""'


def _written(statements: Sequence[Statement]) -> Iterator[str]:
    """Give statements as text: headings of the notebook above what follows them, room around functions and classes."""
    heading, was_block = None, False
    for statement in statements:
        is_block = isinstance(statement.node, FunctionNode | ast.ClassDef)
        if statement.heading != heading:
            heading = statement.heading
            yield f"\n\n# {heading}\n"
        elif is_block or was_block:
            yield "\n"
        yield statement.source
        was_block = is_block


def _explored(statements: Sequence[Statement], wanted: Sequence[Statement]) -> list[Statement]:
    chosen = {id(statement) for statement in wanted}
    return [item for item in statements if id(item) not in chosen and MAGIC not in item.reads]


def _exploration(rest: Sequence[Statement]) -> Iterator[str]:
    body = [line for statement in rest if not statement.is_import for line in statement.source.splitlines()]
    if body:
        yield '\n\nasync def explore() -> None:\n    """What the notebook looks at beside its tasks."""'
        yield from (f"    {line}" if line else "" for line in body)


def _task_name(statement: Statement) -> str:
    return statement.node.name if isinstance(statement.node, FunctionNode) else next(iter(statement.binds))


def _formatted(text: str) -> tuple[str, bool]:
    """Give a text as ruff formats it, where ruff is installed."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(sys.prefix) + "/bin")
    if ruff is None:
        return text, False
    for arguments in (["check", "--select", "I", "--fix-only", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [ruff, *arguments, "--isolated", "--stdin-filename", "script.py", "-"],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=FORMAT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ExportError(f"ruff could not format the script: {done.stderr.strip()}")
        text = done.stdout
    return text, True
