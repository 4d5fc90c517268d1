"""What a session keeps of each task: the definition that it was made of, and what a person should know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from durable_nb.definitions import Definition, Lost, Reference, lint
from durable_nb.tasks.task import Task


@dataclass(frozen=True)
class Kept:
    """A task of this session with the definition that it was made of.

    Attributes:
        live: the function as its cell made it; None for a task that came from the log.
        source: the text of its cell, where it is known.
        helpers: the functions and classes of the notebook that were captured with it, by name.
    """

    task: Task[Any]
    definition: Definition
    live: FunctionType | None = None
    source: str | None = None
    helpers: Mapping[str, object] = field(default_factory=dict)


def references_of(definition: Definition) -> list[Reference]:
    """Give what a definition has the host bind again."""
    return [binding for binding in definition.bindings if isinstance(binding, Reference)]


def notes_on(task: Task[Any], definition: Definition) -> list[str]:
    """Say what cannot be kept with a task, and what in its code a replay would do again."""
    lines = [f"Note: {loss}" for loss in definition.lost]
    if lines:
        lines.append(f"After a restart, run this cell again: the runs of {task.name} wait for it.")
    return lines + [f"Note: {find}" for find in lint(definition, is_durable=task.kind == "durable_task")]


def lost_validator(task: Task[Any], definition: Definition) -> Lost:
    """An input's type is part of the captured code only where the code names it."""
    return Lost(
        name="input_validator",
        type_name="a type given beside the function",
        line=definition.first_line,
        used_by=task.name,
        advice="annotate `input` with it instead",
    )
