"""Statements of a notebook: what each binds and reads, and which of them its tasks need.

Invariant: a statement is kept with its own text, comments above it included; what a person wrote is never printed anew from
a syntax tree.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

APP = "durable"
DECLARING = frozenset({"task", "durable_task", "workflow", "on_failure_task", "on_success_task"})
MAGIC = "get_ipython"  # what IPython makes of a line magic calls this
PURE = frozenset(
    {
        *("NewType", "TypeVar", "ParamSpec", "namedtuple", "timedelta", "datetime", "date", "time", "Path", "PurePath", "Field"),
        *("compile", "getLogger", "frozenset", "set", "dict", "list", "tuple", "range", "TypeAdapter", "create_model", "Durable"),
    }
)  # what declarations call
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Statement:
    """One top-level statement.

    Attributes:
        cell: the number of its cell, from 1.
        text: its lines as they stand in the cell, with the comment lines right above it.
        first: the line of `text` where the statement itself begins, after those comments.
        decorator: for the function of a task cell what makes it a task, such as ``"@durable.task(retries=2)"``.
        heading: the last heading of the notebook above its cell.
    """

    cell: int
    node: ast.stmt
    text: str
    first: int = 0
    decorator: str | None = None
    heading: str | None = None

    @property
    def is_import(self) -> bool:
        """Whether it only imports."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @property
    def is_task(self) -> bool:
        """Whether it declares a task: by the magic of its cell, by a decorator, or as a workflow."""
        if self.decorator:
            return True
        if isinstance(self.node, FunctionNode):
            return any(map(_declares, self.node.decorator_list))
        return isinstance(self.node, ast.Assign) and _declares(self.node.value)

    @cached_property
    def binds(self) -> frozenset[str]:
        """The names that it gives a value, and those whose parts it changes (``config["a"] = 1``)."""
        table = self._table
        bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
        return frozenset(bound | set(_changed(self.node)))

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names of the notebook that it or a function in it looks up."""
        decorating = ast.walk(ast.parse(self.decorator[1:])) if self.decorator else ()
        named = [node.id for node in decorating if isinstance(node, ast.Name)]
        return frozenset({*_global_reads(self._table), *_names_in_strings(self.node), *named})

    @cached_property
    def _table(self) -> symtable.SymbolTable:
        return symtable.symtable(ast.unparse(self.node), f"<cell {self.cell}>", "exec")

    @property
    def source(self) -> str:
        """Its text, with the decorator that makes it a task."""
        if self.decorator is None:
            return self.text
        lines = self.text.splitlines()
        return "\n".join([*lines[: self.first], self.decorator, *lines[self.first :]])

    @property
    def awaits(self) -> bool:
        """Whether it awaits outside of functions, which a notebook can and a script cannot."""
        try:
            compile(ast.Module([self.node], []), "<cell>", "exec", dont_inherit=True)
        except SyntaxError:
            return True
        return False

    @property
    def works(self) -> bool:
        """Whether it may do something when it is executed: it calls what is no part of declaring."""
        if self.is_task or isinstance(self.node, FunctionNode | ast.ClassDef | ast.Import | ast.ImportFrom):
            return False
        called = [node.func for node in ast.walk(self.node) if isinstance(node, ast.Call)]
        return any(ast.unparse(function).rpartition(".")[2] not in PURE for function in called)

    def indented(self, margin: str) -> str:
        """Give its text further right; lines within strings stay as they are."""
        tree = ast.parse(self.text)
        inside = {
            line
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
            for line in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
        }
        lines = enumerate(self.source.splitlines(), start=1)
        return "\n".join(line if number in inside or not line else f"{margin}{line}" for number, line in lines)


def split(source: str, cell: int, heading: str | None = None) -> list[Statement]:
    """Give the top-level statements of a cell's Python.

    Raises:
        SyntaxError: it is no Python.
    """
    lines, found, above = source.splitlines(), list[Statement](), 0
    for node in ast.parse(source).body:
        start = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))]) - 1
        comments = start
        while comments > above and lines[comments - 1].lstrip().startswith("#"):
            comments -= 1
        if start < above:  # it shares a line with the one before it
            text, first = ast.get_source_segment(source, node) or ast.unparse(node), 0
        else:
            text, first = "\n".join(lines[comments : node.end_lineno]), start - comments
        found.append(Statement(cell, node, text, first, heading=heading))
        above = node.end_lineno or above
    return found


def needed(statements: Sequence[Statement]) -> list[Statement]:
    """Give the tasks and all that they need, transitively, in the order of the notebook; of a function defined twice the last."""
    live = list(_live(statements))
    wanted: dict[int, Statement] = {place: statement for place, statement in enumerate(live) if statement.is_task}
    names, todo = set[str](), list(wanted.values())
    while todo:
        names |= todo.pop().reads
        fresh = {place: statement for place, statement in enumerate(live) if place not in wanted and statement.binds & names}
        wanted |= fresh
        todo += fresh.values()
    return [wanted[place] for place in sorted(wanted)]


def _live(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Leave out functions and classes that the notebook defines again further down."""
    last = {statement.node.name: statement for statement in statements if isinstance(statement.node, FunctionNode | ast.ClassDef)}
    for statement in statements:
        if not isinstance(statement.node, FunctionNode | ast.ClassDef) or last[statement.node.name] is statement:
            yield statement


def _declares(node: ast.expr) -> bool:
    target = node.func if isinstance(node, ast.Call) else node
    return isinstance(target, ast.Attribute) and target.attr in DECLARING


def _global_reads(table: symtable.SymbolTable) -> Iterator[str]:
    is_module = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (is_module or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_reads(child)


def _changed(node: ast.stmt) -> Iterator[str]:
    targets: Iterable[ast.expr] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        root: ast.expr = target
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name):
            yield root.id


def _names_in_strings(node: ast.stmt) -> Iterator[str]:
    """Give the names in annotations that are written as strings."""
    for item in ast.walk(node):
        annotation = getattr(item, "annotation", None) or getattr(item, "returns", None)
        for part in ast.walk(annotation) if isinstance(annotation, ast.expr) else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                try:
                    inner = ast.parse(part.value, mode="eval")
                except SyntaxError:
                    continue
                yield from (name.id for name in ast.walk(inner) if isinstance(name, ast.Name))
