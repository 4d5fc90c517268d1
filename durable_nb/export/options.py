"""Options of a task as Python: what `@durable.task(…)` is to say so that it has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from enum import Enum

from durable_nb.tasks.durations import format_duration, parse_duration
from durable_nb.tasks.options import TaskOptions

SECONDS = ("execution_timeout", "schedule_timeout", "cancel_grace", "deadline")
STANDARD = {"timedelta": "datetime"}  # where a name comes from that is none of durable_nb's


def arguments_of(options: TaskOptions) -> str:
    """Give options as keyword arguments, those that are as they would be anyway left out.

    >>> arguments_of(TaskOptions(retries=3, execution_timeout=600.0, on_events=("paid",)))
    "retries=3, execution_timeout='10m', on_events=['paid']"
    """
    usual = TaskOptions()
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    return ", ".join(
        f"{name}={_seconds(value) if name in SECONDS else python_of(value)}"
        for name, value in given.items()
        if value != getattr(usual, name)
    )


def python_of(value: object) -> str:
    """Give an expression that makes a value of options again.

    >>> python_of([timedelta(minutes=1)])
    '[timedelta(seconds=60)]'
    """
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case timedelta():
            return f"timedelta(seconds={value.total_seconds():.15g})"
        case Mapping():
            return "{" + ", ".join(f"{key!r}: {python_of(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(python_of, value))}]"
        case _ if is_dataclass(value):
            return f"{type(value).__name__}({', '.join(_fields(value))})"
        case _:
            return repr(value)


def imports_for(expression: str) -> list[str]:
    """Give the import statements that an expression of `python_of` needs."""
    names = sorted({node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name) and node.id[:1].isupper()})
    standard = [name for name in STANDARD if f"{name}(" in expression]
    return [f"from {STANDARD.get(name, 'durable_nb')} import {name}" for name in [*names, *standard]]


def _seconds(seconds: float) -> str:
    """Give a duration as people say it, where that is the same."""
    text = format_duration(seconds)
    return repr(text if parse_duration(text, of="it").total_seconds() == seconds else seconds)


def _fields(value: object) -> Iterator[str]:
    for item in fields(value):  # type: ignore[arg-type]
        usual = item.default if item.default_factory is MISSING else item.default_factory()
        if getattr(value, item.name) != usual:
            yield f"{item.name}={python_of(getattr(value, item.name))}"
