"""From a source to cel-python's tree, and the way about in that tree.

Invariant: the parser only sees masked text, one thread at a time, and cel-python is left as it was found, so that a notebook
may use it for itself.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Final, cast

from durable_nb.engine.cel.faults import Place
from durable_nb.engine.cel.source import Source

if TYPE_CHECKING:
    import lark

    Tree = lark.Tree[lark.Token]

# fmt: off
_LEVELS: Final = frozenset((
    "expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member", "primary",
    "paren_expr",
))
# fmt: on
_parser_lock = threading.Lock()


def parse(source: Source) -> Tree:
    """Parse with cel-python's grammar. Its parser is one for the process and is built (80 ms) by the first expression.

    It is made with the transpiler's tree class, which serves both of cel-python's runners: a notebook that uses cel-python
    itself finds it usable. `celpy.Environment` is left alone: it raises the process's recursion limit.

    Raises:
        ExpressionError: the text is no CEL; the message says where, and what to write instead.
    """
    from celpy.celparser import CELParseError, CELParser
    from celpy.evaluation import TranspilerTree
    from lark.exceptions import UnexpectedToken

    with _parser_lock:
        try:
            return cast("Tree", CELParser(tree_class=TranspilerTree).parse(source.masked))
        except CELParseError as error:
            cause = error.__context__
    if isinstance(cause, UnexpectedToken) and cause.token.type == "$END":
        raise source.error("it ends too early; close what is open, and complete the last operation", len(source.text))
    start: int = getattr(cause, "pos_in_stream", None) or 0
    raise source.error(_advice(source.masked, start), start, start + 12)


def _advice(masked: str, start: int) -> str:
    if masked.startswith("=", start):
        return "CEL compares with =="
    if masked[start : start + 1] in ("&", "|"):
        return "CEL writes && and ||"
    if re.search(r"(?<![.\w])(and|or|not)\b", masked):
        return "CEL writes &&, || and ! for and, or and not"
    return "this cannot stand here; look for a missing operator, comma, quote or bracket before it"


def place_of(tree: Tree) -> Place:
    """The part of the text that a tree was made of."""
    return Place(getattr(tree.meta, "start_pos", None), getattr(tree.meta, "end_pos", None))


def subtrees(tree: Tree) -> list[Tree]:
    """The children of a tree that has no tokens for children."""
    return cast("list[Tree]", tree.children)


def unwrap(tree: Tree) -> Tree:
    """Skip the levels of the grammar that hold one thing only. A loop: parentheses may be many."""
    while tree.data in _LEVELS and len(tree.children) == 1:
        (tree,) = subtrees(tree)
    return tree
