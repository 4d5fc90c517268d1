"""A notebook as a Python script: its tasks and what they need, with decorators in place of magics.

Nothing runs when the script is imported but definitions; ``python script.py --help`` tells what it can do. Cells that only
explore are left out, or put into a function where they are asked for.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable_nb.export.cells import ExportError, log_of, read
from durable_nb.export.imports import Imports
from durable_nb.export.statements import APP, MAGIC, FunctionNode, Statement, needed

FORMAT_SECONDS = 60
SHELL = ("display",)  # what only IPython gives, beside its magics


@dataclass(frozen=True)
class Script:
    """What was exported.

    Attributes:
        text: the script.
        tasks: the names of the functions that are tasks.
        left_out: the numbers of the code cells of which nothing is in it.
        on_import: what calls something when the script is imported, since a task needs what it makes.
        is_formatted: whether ruff was there to format it.
    """

    text: str
    tasks: tuple[str, ...]
    left_out: tuple[int, ...]
    on_import: tuple[str, ...]
    is_formatted: bool

    def said(self) -> str:
        """Say what is in the script and what is not, for the person."""
        lines = [f"tasks: {', '.join(self.tasks)}"]
        if self.left_out:
            lines.append(f"cells left out, since no task needs them: {', '.join(map(str, self.left_out))}")
        if self.on_import:
            lines.append(f"executed when the script is imported, since tasks need it: {'; '.join(self.on_import)}")
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
    statements, prose = read(notebook)
    if not any(statement.is_task for statement in statements):
        raise ExportError("The notebook declares no task: there is nothing to export. A cell under %%durable_task makes one.")
    wanted = needed(statements)
    for statement in wanted:
        _check(statement)
    used = {name for statement in wanted if not statement.is_import for name in statement.reads}
    rest = _explored(statements, wanted) if explore else []
    used |= {name for statement in rest for name in statement.reads}
    imports = Imports()
    for statement in [*wanted, *rest]:
        if statement.is_import:
            imports.add(statement.node, used)
    body = [statement for statement in wanted if not statement.is_import]
    lines = list[str]()
    taken = {name for statement in [*wanted, *rest] if not statement.is_import for name in statement.binds}
    if not any(APP in statement.binds for statement in body):
        path, app = _imported(imports, "pathlib", "Path", taken), _imported(imports, "durable_nb", "Durable", taken)
        beside = f"{path}(__file__).with_name({log!r})" if Path(log).name == log else f"{path}(__file__).parent / {log!r}"
        lines.append(f"{APP} = {app}({beside})")  # a path from the root stays what it is
    main = _imported(imports, "durable_nb.cli", "main", taken)
    lines += [*_written(body), *_exploration(rest)]
    lines.append(f'\n\nif __name__ == "__main__":\n    {main}({APP})\n')
    text, is_formatted = _formatted("\n".join([_docstring(prose, name), "", *imports.lines(), "", *lines]))
    cells = {statement.cell for statement in statements}
    return Script(
        text=text,
        tasks=tuple(_task_name(statement) for statement in wanted if statement.is_task),
        left_out=tuple(sorted(cells - {statement.cell for statement in [*wanted, *rest]})),
        on_import=tuple(f"{', '.join(sorted(item.binds))} (cell {item.cell})" for item in body if item.works),
        is_formatted=is_formatted,
    )


def _check(statement: Statement) -> None:
    """Refuse (ExportError) what a task needs and a script cannot have."""
    names = ", ".join(sorted(statement.binds))
    if MAGIC in statement.reads:
        raise ExportError(
            f"A task needs {names}, which a magic makes in cell {statement.cell}: give it a value in plain Python there, "
            "or pass it as input."
        )
    if statement.awaits:
        raise ExportError(
            f"A task needs {names}, for which cell {statement.cell} awaits: await it in the task, or pass it as input."
        )


def _imported(imports: Imports, module: str, name: str, taken: Collection[str]) -> str:
    """Import a name that the script itself needs, under another one where the notebook means something else by it."""
    alias = f"durable_{name.lower()}" if name in taken or imports.gives(name, other_than=module) else name
    imports.add(ast.parse(f"from {module} import {name} as {alias}").body[0])
    return alias


def export_to(
    target: Path | None,
    notebook: Mapping[str, Any],
    path: Path,
    *,
    log: Path | None = None,
    explore: bool = False,
    is_forced: bool = False,
) -> Script:
    """Write a notebook's script into a file; only give it, where that is None. It works on the notebook's log.

    Args:
        path: the notebook's. log: its log, where it is known.
        is_forced: write over a file that is there.

    Raises:
        ExportError: the file is there, or the notebook cannot be written as a script. OSError: the file cannot be written.
    """
    if target is not None and target.exists() and not is_forced:
        raise ExportError(f"{target} is there already: name another file, or say --force to write over it.")
    log = path.absolute().parent / (log or log_of(notebook, path))
    script = export(notebook, log=_seen_from((target or path).absolute().parent, log), name=path.stem, explore=explore)
    if target is not None:
        target.write_text(script.text, encoding="utf-8")
    return script


def _seen_from(folder: Path, log: Path) -> str:
    """Give the way from a script's folder to a log; the whole path, where there is none (another drive)."""
    try:
        return Path(os.path.relpath(log, folder)).as_posix()
    except ValueError:
        return str(log)


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
    """Give what only explores, but for magics and what needs what they make."""
    chosen = {id(statement) for statement in wanted}
    rest = [item for item in statements if id(item) not in chosen]
    bound = {name for item in wanted for name in item.binds}
    while True:
        lacking = {MAGIC, *SHELL} | {name for item in statements if item not in rest for name in item.binds} - bound
        kept = [item for item in rest if not item.reads & lacking]
        if len(kept) == len(rest):
            return kept
        rest = kept


def _exploration(rest: Sequence[Statement]) -> Iterator[str]:
    body = [statement for statement in rest if not statement.is_import]
    if body:
        yield '\n\nasync def explore() -> None:\n    """What the notebook looks at beside its tasks."""'
        yield from (statement.indented("    ") for statement in body)


def _task_name(statement: Statement) -> str:
    return statement.node.name if isinstance(statement.node, FunctionNode) else next(iter(statement.binds))


def _formatted(text: str) -> tuple[str, bool]:
    """Give a text as ruff formats it, where ruff is installed."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(sys.prefix) + "/bin")
    if ruff is None:
        return text, False
    option = ["--config", "lint.isort.known-third-party = ['durable_nb']"]  # also where its own sources are
    for arguments in (["check", "--select", "I", "--fix-only", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [ruff, *arguments, "--isolated", *option, "--stdin-filename", "script.py", "-"],
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
