"""The versions of a script's tasks, the hashes of their code, and that code in the log.

Runs go between a notebook and its export since both give a task the same version. The log keeps the code too, signed, so that a
worker that is told no file can serve the script's runs.
"""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from durable_nb.definitions import Definition, capture
from durable_nb.errors import DeclarationError, LogError
from durable_nb.log import definitions as stored
from durable_nb.notebook import rows
from durable_nb.notebook.kept import lost_validator
from durable_nb.notebook.making import APP, TASK
from durable_nb.notebook.workflows import shape_of
from durable_nb.tasks.payload import adapter_for, hint_of
from durable_nb.tasks.workflow import Workflow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from durable_nb.client import Durable
    from durable_nb.log.definitions import StoredDefinition
    from durable_nb.tasks.task import Task


def add_versions(durable: Durable) -> dict[str, Definition]:
    """Give each task the version of its code; those whose source cannot be found have none. Give the definitions, by task."""
    references = {id(durable): APP, **{id(task): f"{TASK}{task.name}" for task in durable.tasks}}
    found: dict[str, Definition] = {}
    for task in durable.tasks:
        if not isinstance(task, Workflow):
            try:
                found[task.name] = _defined(task, capture(task.function, references=references))
            except DeclarationError:
                continue
            task.version = found[task.name].version
    return found


def _defined(task: Task[Any], definition: Definition) -> Definition:
    """Give a definition that says so where the input's type is no part of the code."""
    if task.input_adapter is adapter_for(hint_of(task.function, next(iter(signature(task.function).parameters))), of=""):
        return definition
    return replace(definition, lost=(*definition.lost, lost_validator(task, definition)))


def keep(durable: Durable, definitions: dict[str, Definition]) -> None:
    """Write the definitions of an app object that is open to its log, signed, unless they are there."""
    shapes = {task.name: shape_of(task) for task in durable.tasks if isinstance(task, Workflow)}
    made = [rows.row_of(durable, durable.tasks[name], definition) for name, definition in {**definitions, **shapes}.items()]
    engine = durable.engine

    async def put() -> None:
        newest = await engine.reader.run(lambda connection: stored.list_newest(connection, durable.home))
        known = {(row.task, row.version, row.options) for row in newest if _is_ours(durable, row)}
        new = [row for row in made if (row.task, row.version, row.options) not in known]
        if new:
            await engine.writer.submit(lambda connection: _put(connection, new))

    durable.call(put, aio="")


def _put(connection: sqlite3.Connection, new: Sequence[StoredDefinition]) -> None:
    for row in new:
        stored.put(connection, row)


def _is_ours(durable: Durable, row: StoredDefinition) -> bool:
    try:
        return rows.is_signed(durable, row, Definition.from_json(row.body))
    except LogError:
        return False
