"""Classes that several captured tasks have in common, so that a model made by one is an instance of the other's.

Every task has a namespace of its own, and each would execute the source of `class Part` for itself: two classes of one name,
which pydantic and `isinstance` tell apart. Invariant: two captured classes are one object if and only if their source and all
that it reads are the same.
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import asdict

from durable_nb.definitions.names import names_of
from durable_nb.definitions.records import Binding, Code, Definition, Reference


class Classes:
    """The classes that were rebuilt so far, by what they are made of. One for each session."""

    def __init__(self) -> None:
        self._found: dict[str, object] = {}

    def find(self, key: str | None) -> object | None:
        """Give the class of a key, if it was rebuilt before."""
        return self._found.get(key) if key is not None else None

    def keep(self, key: str | None, value: object) -> None:
        """Keep a class that was rebuilt."""
        if key is not None:
            self._found[key] = value


def class_key(code: Code, definition: Definition) -> str | None:
    """Give what makes a captured class the same in another task: its code and all it reads. None for what is no class of data.

    A class that reads a task or the app has none, since those are set in each task's namespace on its own.
    """
    if not isinstance(_statement(code), ast.ClassDef):
        return None
    bindings = {binding.name: binding for binding in definition.bindings}
    reached: dict[str, Binding] = {}
    todo = [code.name]
    while todo:
        name = todo.pop()
        binding = bindings.get(name)
        if binding is None or name in reached:
            continue
        if isinstance(binding, Reference):
            return None
        reached[name] = binding
        if isinstance(binding, Code):
            todo += names_of(_statement(binding), future_annotations=binding.future_annotations).all
    parts = [{**asdict(reached[name]), "first_line": 0} for name in sorted(reached)]
    return hashlib.sha256(json.dumps([code.name, parts], sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _statement(code: Code) -> ast.stmt:
    return ast.parse(code.source).body[0]
