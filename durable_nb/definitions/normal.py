"""The version of a definition: a hash of what its code means.

Invariant: the version depends on the syntax trees of the function and of what was captured with it, and on nothing else: not
on layout, comments, magics, the task's decorators, the order of the bindings, the Python version or the platform. The tree
is written out here rather than by `ast.dump`, whose text differs between Python versions.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Iterable

from durable_nb.definitions.records import Binding, Code, Constant, FromImport, Import, Reference
from durable_nb.definitions.sources import parse

_IGNORED_FIELDS = {"type_comment", "kind", "type_ignores"}  # `u""` and `# type:` mean nothing
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def version_of(source: str, bindings: Iterable[Binding]) -> str:
    r"""Hash a function's source and all its bindings to sixteen hexadecimal digits.

    A reference that is bound under its own name (`score` to "task:score") adds nothing: the code says the name already. So
    two tasks that call each other keep their versions when the second one gets defined.

    Example:
        >>> version_of("def f(x):  # why\n    return (x)", []) == version_of("def f(x): return x", [])
        True
    """
    facts = [fact for binding in bindings if (fact := _fact(binding))]
    text = json.dumps([normal_form(source), sorted(facts)], ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def normal_form(source: str) -> str:
    """Write the syntax tree of `source` as text, without positions and layout; docstrings are kept, their indentation is not."""
    return _dump(parse(source))


def _fact(binding: Binding) -> list[str] | None:
    match binding:
        case Import():
            return [binding.name, "import", binding.module, binding.sha256 or ""]  # its submodules follow from the code
        case FromImport():
            return [binding.name, "from", binding.module, binding.attribute, binding.sha256 or ""]
        case Code():
            return [binding.name, "code", normal_form(binding.source)]
        case Constant():
            return [binding.name, "constant", binding.value]
        case Reference(target=target, name=name):
            return None if target == "self" or target.rpartition(":")[2] == name else [name, "reference", target]


def _dump(node: object) -> str:
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: getattr(node, name, None) for name in node._fields if name not in _IGNORED_FIELDS}
    if isinstance(node, _WITH_DOCSTRING):
        fields["body"] = _clean_docstring(node.body)
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _merge_texts(node.values)
    parts = [f"{name}={_dump(value)}" for name, value in fields.items() if value is not None and value != []]
    if isinstance(node, ast.Constant) and node.value is None:
        parts = ["value=None"]
    return f"{type(node).__name__}({','.join(parts)})"


def _clean_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str(text))), *rest]:
            return [ast.Expr(value=ast.Constant(value=inspect.cleandoc(text))), *rest]
    return body


def _merge_texts(values: list[ast.expr]) -> list[ast.expr]:
    """Join neighbouring texts of an f-string and drop empty ones, which Python versions split in different places."""
    merged: list[ast.expr] = []
    for value in values:
        match merged, value:
            case [*_, ast.Constant(value=str(before))], ast.Constant(value=str(text)):
                merged[-1] = ast.Constant(value=before + text)
            case _, ast.Constant(value=""):
                continue
            case _:
                merged.append(value)
    return merged
