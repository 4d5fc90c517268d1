"""Definitions as rows of the log: what is said of a task beside its code, as one JSON text that is signed together with it.

Invariant: nothing of a row is used unless this user's signature on it verifies, and the signature covers all of it: log, home,
name, kind, options, a workflow's shape, code and version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from durable_nb.client import Durable
from durable_nb.definitions import Definition, definition_parts, trust
from durable_nb.errors import DeclarationError, LogError
from durable_nb.log.definitions import StoredDefinition
from durable_nb.tasks.conditions import Condition, ParentCondition, SleepCondition, UserEventCondition
from durable_nb.tasks.flow import plain
from durable_nb.tasks.options import TaskOptions, options_from_json, options_to_json
from durable_nb.tasks.task import Kind, Task
from durable_nb.tasks.workflow import Gate, Part, Workflow, WorkflowTask

GATES = ("wait_for", "skip_if", "cancel_if")
Shape = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Said:
    """A declaration without its code.

    Attributes:
        workflow: of a workflow's task, the workflow's name.
        graph: of a workflow, its tasks by name in the order of their declaration: version, kind, parents, conditions; and
            whether it has a type of its own for the input.
    """

    kind: Kind
    home: str
    options: TaskOptions
    description: str | None = None
    workflow: str | None = None
    graph: Shape | None = None


def write(task: Task[Any], home: str) -> str:
    """Write what is said of a task, for a row's `options`."""
    said: Shape = {"kind": task.kind, "home": home, "options": options_to_json(task.options), "description": task.description}
    if isinstance(task, WorkflowTask):
        said["workflow"] = task.part.workflow.name
    if isinstance(task, Workflow):
        tasks = {name: _shape(member) for name, member in task.tasks.items()}
        said["graph"] = {"tasks": tasks, "order": list(tasks), "has_validator": task.has_validator}
    return json.dumps(said, default=plain, sort_keys=True, ensure_ascii=True)


def read(text: str) -> Said:
    """Read what `write` wrote, once its signature has been verified.

    Raises:
        LogError: another version of durable_nb wrote it.
    """
    try:
        said = json.loads(text)
        return Said(**{**said, "options": options_from_json(said["options"])})
    except (KeyError, TypeError, ValueError, DeclarationError) as error:
        raise LogError(f"The options of a definition cannot be read ({error}): run its cell again.") from error


def row_of(durable: Durable, task: Task[Any], definition: Definition) -> StoredDefinition:
    """Give the row of a definition, signed."""
    row = StoredDefinition(
        task=task.name,
        version=definition.version,
        kind=task.kind,
        options=write(task, durable.home),
        body=definition.to_json(),
        home=durable.home,
        signature=b"",
        created_at=durable.engine.clock.now(),
    )
    return replace(row, signature=sign(durable, row))


def sign(durable: Durable, row: StoredDefinition) -> bytes:
    """Sign a definition as the log is to keep it."""
    definition = Definition.from_json(row.body)
    return durable.keyring.sign(*definition_parts(durable.log_id, row.task, row.options, definition))


def is_signed(durable: Durable, row: StoredDefinition, definition: Definition) -> bool:
    """Whether this user's signature covers a definition as it stands in the log, its home and version included."""
    return trust.is_signed(durable.keyring, durable.log_id, row, definition)


# ---------------------------------------------------------------- a workflow's shape


def _shape(task: WorkflowTask[Any]) -> Shape:
    part = task.part
    gates = {name: [[_condition(item) for item in group] for group in getattr(part, name)] for name in GATES}
    parents = [parent.part.short_name for parent in part.parents]
    return {"version": task.version, "kind": task.kind, "parents": parents, "when": part.when, **gates}


def _condition(condition: Condition | ParentCondition) -> Shape:
    name = condition.readable_data_key
    match condition:
        case SleepCondition(duration=duration):
            return {"sleep": duration // timedelta(microseconds=1), "name": name}
        case UserEventCondition(event_key=key, expression=expression, scope=scope):
            return {"event": key, "expression": expression, "scope": scope, "name": name}
        case ParentCondition(parent=parent, expression=expression):
            short_name = cast("WorkflowTask[Any]", parent).part.short_name
            return {"parent": short_name, "expression": expression, "name": name}


def part_of(workflow: Workflow, name: str, shape: Shape) -> Part:
    """Give a task's place in a workflow that has its parents already.

    Raises:
        LogError: another version of durable_nb wrote it.
    """
    try:
        return Part(
            workflow=workflow,
            short_name=name,
            parents=tuple(workflow.tasks[parent] for parent in shape["parents"]),
            when=shape["when"],
            **{gate: _gate(workflow, shape[gate]) for gate in GATES},
        )
    except (KeyError, TypeError, ValueError, DeclarationError) as error:
        raise LogError(f"The shape of workflow '{workflow.name}' cannot be read ({error!r}): run its cell again.") from error


def _gate(workflow: Workflow, groups: list[list[Shape]]) -> Gate:
    return tuple(tuple(_restored(workflow, condition) for condition in group) for group in groups)


def _restored(workflow: Workflow, said: Shape) -> Condition | ParentCondition:
    if "sleep" in said:
        return SleepCondition(timedelta(microseconds=said["sleep"]), said["name"])
    if "event" in said:
        return UserEventCondition(said["event"], said["expression"], said["name"], said["scope"])
    return ParentCondition(workflow.tasks[said["parent"]], said["expression"], said["name"])
