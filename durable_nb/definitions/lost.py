"""What cannot be kept with a task, and what the person can do about it.

Every loss is named when the task is defined, while there is somebody to read it, and never first at recovery.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from types import FunctionType, ModuleType

from durable_nb.definitions import origins
from durable_nb.definitions.records import UNDEFINED, Lost

AS_INPUT = "pass it as input, make it in a child task, or read it inside the task"
OPEN_INSIDE = "open it inside the task"
DEFINE_BEFORE = "define it before this cell"
DEFINE_WITH_DEF = "define it with `def` at the top of a cell that this kernel has run"
DEFINE_CLASS = "define it with `class` or as `Name = ...` at the top of a cell that this kernel has run"
SAVE_MODULE = "save the module to a file, which a fresh kernel can import"
TOO_LARGE = "it is larger than 64 KiB, so " + AS_INPUT
TWO_MEANINGS = "another part of the task means something else by that name, so rename one of the two"
REGISTERED = (
    "what was registered on it is lost on rebuild, so choose by `match` or `isinstance` inside it, or move it to a module"
)
ATTRIBUTES = "the attributes set on it from outside are lost on rebuild, so set none, or move it to a module"
BUILD_INSIDE = "build it inside the task or in a helper function that it calls"
NO_SUPER = "a method is no task by itself, so define the task as a function at the top of a cell"


class LossError(Exception):
    """Raised while a value is classified: it cannot be kept, for the reason that `advice` answers."""

    def __init__(self, advice: str) -> None:
        self.advice = advice
        super().__init__(advice)


def lost_value(name: str, value: object, *, line: int, used_by: str, advice: str = "") -> Lost:
    """The record of a value that cannot be kept; the advice follows from its type if none is given."""
    type_name = "module" if isinstance(value, ModuleType) else origins.type_name(value)
    return Lost(name=name, type_name=type_name, line=line, used_by=used_by, advice=advice or advice_for(value))


def lost_name(name: str, *, line: int, used_by: str) -> Lost:
    """The record of a name that has no value yet."""
    return Lost(name=name, type_name=UNDEFINED, line=line, used_by=used_by, advice=DEFINE_BEFORE)


def advice_for(value: object) -> str:
    """What to do instead of using a live object of this type.

    Example:
        >>> advice_for(open)
        'pass it as input, make it in a child task, or read it inside the task'
    """
    cls = type(value)
    if isinstance(value, ModuleType):
        return SAVE_MODULE
    if isinstance(value, type):
        return DEFINE_CLASS
    if isinstance(value, FunctionType):
        return DEFINE_WITH_DEF
    if isinstance(value, Generator):
        return AS_INPUT  # though a generator can be closed
    if isinstance(value, io.IOBase) or any(hasattr(cls, name) for name in ("close", "acquire", "__aenter__")):
        return OPEN_INSIDE
    return BUILD_INSIDE if not origins.is_importable(cls.__module__) and cls.__module__ != "builtins" else AS_INPUT
