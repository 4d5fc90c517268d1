"""Looking at a log before, or without, executing anything of it: `%durable status` and `%durable trust`.

Invariant: of a log that is not trusted, code is shown as text and nothing else is done with it; what is trusted is exactly
what was shown.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from durable_nb.definitions import Code, Constant, Definition
from durable_nb.errors import DurableError, InertLogError
from durable_nb.log import definitions as stored
from durable_nb.log.connection import open_sqlite, prepare
from durable_nb.log.definitions import StoredDefinition, UnfinishedRuns
from durable_nb.notebook import rows
from durable_nb.tasks.task import Task
from durable_nb.tasks.workflow import Workflow
from durable_nb.views.text import log_line
from durable_nb.views.words import BY_STATUS, brief, counted, visible

if TYPE_CHECKING:
    from durable_nb.notebook.extension import Extension


# ---------------------------------------------------------------- status


def status_of(extension: Extension) -> RenderableType:
    """Give the log, the worker, the tasks and the runs by status; of a log that cannot be opened, why."""
    try:
        session = extension.ready()
    except InertLogError as error:
        return Text(f"inert: {visible(str(error))}", style="yellow")
    durable, engine = session.durable, session.durable.engine
    lines = [
        Text(log_line(extension.state())),
        Text(f"worker {engine.worker}, home {brief(durable.home) if durable.home else 'unknown'}"),
    ]
    counts = session.read(stored.count_statuses)
    states = [
        Text(f"{BY_STATUS[name].symbol} {count} {BY_STATUS[name].word}", style=BY_STATUS[name].colour)
        for name, count in counts.items()
    ]
    lines.append(Text("runs: ").append_text(Text(", ").join(states)) if states else Text("runs: none yet"))
    lines += [
        Text(f"{brief(name)} is not restored: {brief(why, 400)}", style="yellow") for name, why in session.unrestorable.items()
    ]
    for name, others in session.held().items():
        lines.append(Text(f"{brief(name)} waits for the definition of {', '.join(map(brief, others))}", style="yellow"))
    return Group(*lines, _tasks(extension)) if list(durable.tasks) else Group(*lines, Text("tasks: none yet"))


def _tasks(extension: Extension) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "kind", "version", "from"):
        table.add_column(column)
    for task in sorted(extension.durable.tasks, key=lambda task: task.name):
        origin = "the log" if task.is_restored else "a cell"
        table.add_row(Text(brief(task.name, 60)), Text(_kind(task)), Text(task.version or ""), Text(origin))
    return table


def _kind(task: Task[Any]) -> str:
    return "workflow" if isinstance(task, Workflow) else task.kind.replace("_", " ")


# ---------------------------------------------------------------- trust


def trust(extension: Extension, *, is_agreed: bool) -> None:
    """Show the code of a log that this user did not write, and its runs; if agreed, sign exactly that, and open the log.

    Code that is not what this kernel has shown before is shown only: the person has agreed to something else.
    """
    durable = extension.durable
    log_id, is_new = prepare(durable.path)
    if is_new:
        durable.keyring.remember(log_id, durable.path)
    shown, unfinished = _read(extension)
    if durable.keyring.knows(log_id):
        extension.ready()
        shown = [row for row in shown if row.task in extension.session.untrusted]
        if not shown:
            print("Nothing to trust: this log is known, and every definition in it carries your signature.")
            return
    _show(shown, unfinished)
    is_changed = extension.shown not in (None, (log_id, shown))
    extension.shown = (log_id, shown)
    if is_agreed and is_changed:
        print("It has changed since it was last shown, so nothing was signed.")
    if not is_agreed or is_changed:
        print("Nothing of it is executed until you say `%durable trust --yes`.")
        return
    durable.close()
    durable.log_id = log_id
    durable.keyring.remember(log_id, durable.path)
    _adopt(extension, shown)
    extension.ready()
    extension.restore()
    print(*extension.lines(), sep="\n")


def _read(extension: Extension) -> tuple[list[StoredDefinition], list[UnfinishedRuns]]:
    with contextlib.closing(open_sqlite(extension.durable.path, query_only=True)) as connection:
        return stored.list_newest(connection, None), stored.list_unfinished(connection, None)


def _show(shown: list[StoredDefinition], unfinished: list[UnfinishedRuns]) -> None:
    for row in shown:
        home = visible(row.home) or "unknown"
        print(f"─── {visible(row.task)} ({visible(row.kind)}, version {visible(row.version)}, home {home})")
        print(visible(_source_of(row), lines=True))
    if not shown:
        print("No definition is in this log.")
    for group in unfinished:
        print(f"{counted(group.runs, 'unfinished run')} of {visible(group.task)}, {group.roots} of them started by a person")


def _source_of(row: StoredDefinition) -> str:
    try:
        definition = Definition.from_json(row.body)
    except DurableError as error:
        return f"(unreadable, so it is never executed: {error})"
    parts = []
    for binding in definition.bindings:
        if isinstance(binding, Code):
            parts.append(binding.source)
        elif isinstance(binding, Constant):
            parts.append(f"{binding.name} = {binding.value}")
        else:
            parts.append(_import_words(binding))
    return "\n".join([*parts, *_shape_of(row), definition.source])


def _shape_of(row: StoredDefinition) -> Iterator[str]:
    """Give a workflow's tasks with what each comes after and depends on; nothing of any other definition."""
    try:
        graph = json.loads(row.options).get("graph")
        for name in graph["order"] if graph else ():
            yield f"# task {name}: {json.dumps(graph['tasks'][name], ensure_ascii=False)}"
    except (AttributeError, KeyError, TypeError, ValueError):
        yield f"# (its shape is unreadable, so it is never executed: {row.options})"


def _import_words(binding: object) -> str:
    module, attribute = getattr(binding, "module", None), getattr(binding, "attribute", None)
    name = getattr(binding, "name", "")
    if module is None:
        return f"# {name} is {getattr(binding, 'target', '')}"
    if attribute:
        return f"from {module} import {attribute} as {name}"
    submodules = getattr(binding, "submodules", ())  # importing one executes it, so it is shown like any other
    return "\n".join([f"import {module} as {name}", *(f"import {submodule}" for submodule in submodules)])


def _adopt(extension: Extension, shown: list[StoredDefinition]) -> None:
    """Sign what was shown and can be read, and the runs that have not ended, in one transaction."""
    durable = extension.durable
    readable = [row for row in shown if _is_readable(row)]
    with contextlib.closing(open_sqlite(durable.path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            stored.adopt(
                connection,
                readable,
                sign_definition=lambda row: rows.sign(durable, row),
                sign_run=lambda run_id, task, version, value: durable.keyring.sign(
                    "run", durable.log_id, run_id, task, version, value
                ),
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _is_readable(row: StoredDefinition) -> bool:
    try:
        Definition.from_json(row.body)
    except DurableError:
        return False
    return True
