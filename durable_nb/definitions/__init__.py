"""The code of tasks as the log keeps it: captured source, version, signature, and the way back to a function."""

from durable_nb.definitions.capture import capture
from durable_nb.definitions.classes import Classes
from durable_nb.definitions.lint import lint
from durable_nb.definitions.rebuild import bind, discard, notes, rebuild, unbound
from durable_nb.definitions.records import Binding, Code, Constant, Definition, FromImport, Import, Lost, Reference
from durable_nb.definitions.trust import Keyring, definition_parts, is_signed

__all__ = [
    "Binding",
    "Classes",
    "Code",
    "Constant",
    "Definition",
    "FromImport",
    "Import",
    "Keyring",
    "Lost",
    "Reference",
    "bind",
    "capture",
    "definition_parts",
    "discard",
    "is_signed",
    "lint",
    "notes",
    "rebuild",
    "unbound",
]
