"""From tree to closures.

Invariant: what can be known to be wrong before any value is seen is refused here, with its place: names, functions and their
forms, macros' variables, literals out of range, patterns, depth. So a filter that compiled can only fail on its values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from durable_nb.engine.cel.arithmetic import invert, negate
from durable_nb.engine.cel.closures import (
    apply,
    apply_two,
    calculate,
    choose,
    constant,
    has,
    logic,
    make_list,
    make_map,
    select,
    variable,
)
from durable_nb.engine.cel.containers import index
from durable_nb.engine.cel.faults import Fault, listed
from durable_nb.engine.cel.frame import VARIABLES, Eval
from durable_nb.engine.cel.functions import FUNCTIONS
from durable_nb.engine.cel.grammar import place_of, subtrees, unwrap
from durable_nb.engine.cel.limits import MAX_DEPTH
from durable_nb.engine.cel.macros import MACROS, Loop, make_macro
from durable_nb.engine.cel.patterns import compile_pattern, matches_literal
from durable_nb.engine.cel.relations import RELATIONS
from durable_nb.engine.cel.source import TOO_DEEP, Source
from durable_nb.engine.cel.values import INT_MAX, INT_MIN, TYPES, UINT_MAX, Uint

if TYPE_CHECKING:
    from lark import Token

    from durable_nb.engine.cel.grammar import Tree
    from durable_nb.errors import ExpressionError

Scope = dict[str, int]
"""A macro's variables and their slots. A slot is the macro's level, so that macros side by side share one."""

_SIGNS: Final = {
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
}
# fmt: off
_RESERVED: Final = frozenset((
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "namespace", "package",
    "return", "var", "void", "while",
))
# fmt: on


class Compiler:
    """Turns one tree into closures. `_build_…` are named after the grammar's rules.

    After `build`, `macro_levels` is the number of slots that the frame must have beyond the filter's variables.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.macro_levels = 0
        self._depth = 0
        self._nodes = 0

    def build(self, tree: Tree, scope: Scope) -> Eval:
        """Make the closure of a tree, in which these variables of macros are known."""
        tree = unwrap(tree)
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise self._error(TOO_DEEP, tree)
        builder = cast("Callable[[Tree, Scope], Eval]", getattr(self, f"_build_{tree.data}"))
        node = builder(tree, scope)
        self._depth -= 1
        return node

    def _error(self, message: str, tree: Tree) -> ExpressionError:
        return self.source.error(message, *place_of(tree))

    # operators

    def _build_expr(self, tree: Tree, scope: Scope) -> Eval:
        condition, then, otherwise = subtrees(tree)
        return choose(self.build(condition, scope), self.build(then, scope), self.build(otherwise, scope), place_of(condition))

    def _build_conditionalor(self, tree: Tree, scope: Scope) -> Eval:
        return self._logic(tree, scope, deciding=True)

    def _build_conditionaland(self, tree: Tree, scope: Scope) -> Eval:
        return self._logic(tree, scope, deciding=False)

    def _logic(self, tree: Tree, scope: Scope, *, deciding: bool) -> Eval:
        operands = []
        rest = tree
        while rest.data == tree.data:
            rest, operand = subtrees(rest)
            operands.append(operand)
            rest = unwrap(rest)
        operands.append(rest)
        return logic([(self.build(operand, scope), place_of(operand)) for operand in reversed(operands)], deciding)

    def _build_relation(self, tree: Tree, scope: Scope) -> Eval:
        operation, right = subtrees(tree)
        (left,) = subtrees(operation)
        return apply_two(RELATIONS[operation.data], self.build(left, scope), self.build(right, scope), place_of(tree))

    def _build_addition(self, tree: Tree, scope: Scope) -> Eval:
        chain = []
        rest = tree
        while rest.data == tree.data:
            operation, operand = subtrees(rest)
            chain.append((_SIGNS[operation.data], operand, place_of(rest)))
            rest = unwrap(subtrees(operation)[0])
        first = self.build(rest, scope)
        return calculate(first, [(sign, self.build(operand, scope), place) for sign, operand, place in reversed(chain)])

    _build_multiplication = _build_addition

    def _build_unary(self, tree: Tree, scope: Scope) -> Eval:
        operation, operand = subtrees(tree)
        call = invert if operation.data == "unary_not" else negate
        return apply(call, [self.build(operand, scope)], place_of(tree))

    # members

    def _build_member_dot(self, tree: Tree, scope: Scope) -> Eval:
        dotted = self.source.masked[slice(*place_of(tree))]
        if dotted in TYPES and "google" not in scope:
            return constant(TYPES[dotted])
        operand, name = cast("tuple[Tree, Token]", tree.children)
        return select(self.build(operand, scope), str(name), place_of(tree))

    def _build_member_index(self, tree: Tree, scope: Scope) -> Eval:
        operand, key = subtrees(tree)
        return apply_two(index, self.build(operand, scope), self.build(key, scope), place_of(tree))

    def _build_member_object(self, tree: Tree, _: Scope) -> Eval:
        raise self._error("there are no protobuf messages here; write a map, {'name': value}", tree)

    def _build_member_dot_arg(self, tree: Tree, scope: Scope) -> Eval:
        operand, name, *exprlist = cast("tuple[Tree, Token, Tree]", tree.children)
        arguments = subtrees(exprlist[0]) if exprlist else []
        if len(arguments) in MACROS.get(name, ()):
            return self._macro(tree, str(name), operand, arguments, scope)
        return self._call(tree, str(name), [operand, *arguments], scope, method=True)

    def _macro(self, tree: Tree, name: str, operand: Tree, arguments: list[Tree], scope: Scope) -> Eval:
        item = unwrap(arguments[0])
        if item.data != "ident" or str(item.children[0]) in _RESERVED:
            raise self._error(f"{name}() takes the name of its variable first, like {name}(x, ...)", arguments[0])
        target = self.build(operand, scope)
        slot = max(scope.values(), default=len(VARIABLES) - 1) + 1
        self.macro_levels = max(self.macro_levels, slot - len(VARIABLES) + 1)
        inner = {**scope, str(item.children[0]): slot}
        before = self._nodes
        bodies = [self.build(argument, inner) for argument in arguments[1:]]
        return make_macro(Loop(target, slot, self._nodes - before + 1, name, place_of(tree)), bodies)

    # calls

    def _build_ident_arg(self, tree: Tree, scope: Scope) -> Eval:
        name, *exprlist = cast("tuple[Token, Tree]", tree.children)
        arguments = subtrees(exprlist[0]) if exprlist else []
        if name == "has":
            return self._has(tree, arguments, scope)
        return self._call(tree, str(name), arguments, scope, method=False)

    _build_dot_ident_arg = _build_ident_arg

    def _has(self, tree: Tree, arguments: list[Tree], scope: Scope) -> Eval:
        selection = unwrap(arguments[0]) if len(arguments) == 1 else tree
        if selection.data != "member_dot":
            raise self._error("has() takes one field, like has(input.name)", tree)
        operand, name = cast("tuple[Tree, Token]", selection.children)
        return has(self.build(operand, scope), str(name), place_of(tree))

    def _call(self, tree: Tree, name: str, arguments: list[Tree], scope: Scope, *, method: bool) -> Eval:
        function = FUNCTIONS.get(name)
        if function is None:
            known = sorted({*FUNCTIONS, *MACROS, "has"})
            raise self._error(f"there is no function {name}(); use one of {listed(known)}", tree)
        if len(arguments) not in (function.method if method else function.plain):
            raise self._error(f"{name}() is not called like this; write {function.forms(name)}", tree)
        call = matches_literal if name == "matches" and self._is_pattern(arguments[1]) else function.call
        return apply(call, [self.build(argument, scope) for argument in arguments], place_of(tree))

    def _is_pattern(self, tree: Tree) -> bool:
        """Tell whether the tree is a string literal; refuse one that is no pattern."""
        literal = unwrap(tree)
        pattern = self.literal_value(literal) if literal.data == "literal" else None
        if not isinstance(pattern, str):
            return False
        try:
            compile_pattern(pattern)
        except Fault as fault:
            raise self._error(fault.message, tree) from None
        return True

    # primaries

    def _build_ident(self, tree: Tree, scope: Scope) -> Eval:
        name = str(tree.children[0])
        if tree.data == "ident" and name in scope:
            return variable(scope[name])
        if name in VARIABLES:
            return variable(VARIABLES.index(name))
        if name in TYPES:
            return constant(TYPES[name])
        raise self._error(f"`{name}` is not known; write input.{name} for a field of the payload, or {listed(VARIABLES)}", tree)

    _build_dot_ident = _build_ident  # a leading dot leaves the macros' variables out

    def _build_list_lit(self, tree: Tree, scope: Scope) -> Eval:
        return make_list([self.build(item, scope) for exprlist in subtrees(tree) for item in subtrees(exprlist)])

    def _build_map_lit(self, tree: Tree, scope: Scope) -> Eval:
        parts = [self.build(part, scope) for mapinits in subtrees(tree) for part in subtrees(mapinits)]
        return make_map(list(zip(parts[::2], parts[1::2], strict=True)), place_of(tree))

    def _build_literal(self, tree: Tree, _: Scope) -> Eval:
        return constant(self.literal_value(tree))

    def literal_value(self, tree: Tree) -> object:
        """Give the value of a literal."""
        (leaf,) = cast("list[Token]", tree.children)
        if leaf.type == "NULL_LIT":
            return None
        if leaf.type == "BOOL_LIT":
            return leaf == "true"
        if leaf.type == "FLOAT_LIT":
            if math.isinf(float(leaf)):
                raise self._error("this number is out of the range of double; write a smaller one", tree)
            return float(leaf)
        if leaf.type in ("INT_LIT", "UINT_LIT"):
            return self._whole_number(leaf, tree)
        return self.source.literals[leaf.start_pos or 0]

    def _whole_number(self, leaf: Token, tree: Tree) -> int:
        digits = leaf.rstrip("uU")
        low, high = (INT_MIN, INT_MAX) if leaf.type == "INT_LIT" else (0, UINT_MAX)
        value = int(digits, 16 if "x" in digits else 10) if len(digits) <= 40 else high + 1
        if not low <= value <= high:
            raise self._error("this number is out of the range of 64 bits; write it as a double, like 1e20", tree)
        return value if leaf.type == "INT_LIT" else Uint(value)
