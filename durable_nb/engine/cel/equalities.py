"""What a filter wants to be equal: the comparisons with which it begins, by which an index finds the filters that may agree.

Invariant: **where an event holds other values than the filter wants, evaluating the filter gives false and no error**, so that
leaving it out changes nothing. Hence only comparisons at the beginning count, joined by `&&`, of a field with a text, a number, a
bool or null (and `has` of a field among them): nothing before them can use up the steps. And where a value cannot be told surely
(a field is missing, a text is long, the values are beyond the limits), there is no value, and every filter is evaluated as if
there were no index. Two values that CEL calls equal have one form here; two that it does not may share one by chance, since
whatever is found is evaluated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, cast

from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import DEFAULTS, VARIABLES
from durable_nb.engine.cel.grammar import subtrees, unwrap
from durable_nb.engine.cel.payload import check_input

if TYPE_CHECKING:
    from lark import Token

    from durable_nb.engine.cel.compiler import Compiler
    from durable_nb.engine.cel.grammar import Tree

MOST_COMPARISONS: Final = 8
LONGEST_TEXT: Final = 4096  # so that the steps of comparing never matter
NO_LITERAL: Final = b"x"

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equalities:
    """The fields that a filter compares first, and the values that it wants of them.

    Attributes:
        fields: JSON list of paths, each a list that begins with a variable of the filter.
        value: one hash of all the values, in the order of the fields.
    """

    fields: str
    value: bytes


def equalities_of(tree: Tree, compiler: Compiler) -> Equalities | None:
    """Give the comparisons with which an expression begins; None if it begins with anything else."""
    paths: list[Path] = []
    values: list[bytes] = []
    for operand in _operands(tree):
        if _is_guard(operand, compiler):
            continue
        comparison = _comparison(operand, compiler)
        if comparison is None or len(paths) == MOST_COMPARISONS:
            break
        paths.append(comparison[0])
        values.append(comparison[1])
    return Equalities(json.dumps(paths, ensure_ascii=True), _hash(values)) if paths else None


class Told:
    """What one event tells of the fields that filters compare.

    Args:
        values: the filter's variables; those that are not given have their defaults.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = DEFAULTS | dict(values)
        self._is_sure = True
        try:
            check_input([self._values[name] for name in VARIABLES])
        except Fault:  # then every filter fails on it, and says so
            self._is_sure = False

    def value_of(self, fields: str) -> bytes | None:
        """Give the hash of an event's values of some fields; None if it cannot be told surely."""
        forms = [self._form(path) for path in json.loads(fields)] if self._is_sure else [None]
        return None if None in forms else _hash(cast("list[bytes]", forms))

    def _form(self, path: Sequence[str]) -> bytes | None:
        value: object = self._values
        for name in path:
            if not isinstance(value, dict) or name not in value:
                return None
            value = value[name]
        return None if isinstance(value, str) and len(value) > LONGEST_TEXT else _form_of(value)


def _operands(tree: Tree) -> list[Tree]:
    operands, rest = [], unwrap(tree)
    while rest.data == "conditionaland":
        left, operand = subtrees(rest)
        operands.append(unwrap(operand))
        rest = unwrap(left)
    return [rest, *reversed(operands)]


def _comparison(tree: Tree, compiler: Compiler) -> tuple[Path, bytes] | None:
    """Give path and value of ``path == literal``, either way round."""
    if tree.data != "relation":
        return None
    operation, right = subtrees(tree)
    if operation.data != "relation_eq":
        return None
    (left,) = subtrees(operation)
    for field, literal in ((left, right), (right, left)):
        path, value = _path(unwrap(field), compiler), _literal(unwrap(literal), compiler)
        if path is not None and value is not None:
            return path, value
    return None


def _is_guard(tree: Tree, compiler: Compiler) -> bool:
    """Whether it is ``has(path)``, which takes no steps; where it is false the filter is, and the index need not know."""
    if tree.data not in ("ident_arg", "dot_ident_arg") or str(tree.children[0]) != "has":
        return False
    arguments = [argument for exprlist in subtrees(tree)[1:] for argument in subtrees(exprlist)]
    return len(arguments) == 1 and _path(unwrap(arguments[0]), compiler) is not None


def _path(tree: Tree, compiler: Compiler) -> Path | None:
    names: list[str] = []
    while tree.data in ("member_dot", "member_index"):
        operand, name = cast("tuple[Tree, Token | Tree]", tree.children)
        if tree.data == "member_index":
            key = unwrap(cast("Tree", name))
            name = compiler.literal_value(key) if key.data == "literal" else None  # type: ignore[assignment]
            if not isinstance(name, str) or len(name) > LONGEST_TEXT:
                return None
        names.append(str(name))
        tree = unwrap(operand)
    if tree.data != "ident" or str(tree.children[0]) not in VARIABLES:
        return None
    return (str(tree.children[0]), *reversed(names))


def _literal(tree: Tree, compiler: Compiler) -> bytes | None:
    is_negative = False
    if tree.data == "unary":
        operation, operand = subtrees(tree)
        is_negative, tree = operation.data == "unary_neg", unwrap(operand)
        if not is_negative:
            return None
    if tree.data != "literal":
        return None
    value = compiler.literal_value(tree)
    if is_negative:
        if type(value) is not int and type(value) is not float:
            return None
        value = -value
    form = _form_of(value)
    return None if form == NO_LITERAL else form


def _form_of(value: object) -> bytes:
    """Give one form for all values that CEL calls equal; `NO_LITERAL` for what equals no literal."""
    if value is None:
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float) and (not math.isfinite(value) or not value.is_integer()):
        return NO_LITERAL if math.isnan(value) else f"n{value!r}".encode()
    if isinstance(value, int | float):
        return f"n{int(value):x}".encode()
    if isinstance(value, str):
        return b"s" + value.encode("utf-8", "surrogatepass")
    return NO_LITERAL


def _hash(forms: Sequence[bytes]) -> bytes:
    digest = blake2b(digest_size=16)
    for form in forms:
        digest.update(b"%d:" % len(form) + form)
    return digest.digest()
