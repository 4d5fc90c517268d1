"""Where the text of functions, classes and assignments is found.

Looked through, in this order: the text that the host hands over, the text cached under the code's own file name (IPython puts
each cell there, Python each file), the notebook's list of executed cells (`In`, latest first), and every other cached cell.
A function is found by file and line, so a later cell of the same name cannot be taken for it. A class keeps no line before
Python 3.13 and is found by its methods, else as the latest class statement that agrees with it in fields and values.

Invariant: texts are parsed, never executed, and line numbers are those of the cell.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType

from durable_nb.definitions.names import Function

_MAGIC_LINE = re.compile(r"^(\s*)(?:[%!?].*|[\w.]+\s*=\s*[%!].*|[\w.*%]+\?{1,2}\s*)$")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement of a cell: its dedented text, and the line of the cell on which the text begins."""

    text: str
    first_line: int

    @property
    def node(self) -> ast.stmt:
        """The statement's syntax tree, with lines counted from 1."""
        return parse(self.text).body[0]

    def without_decorators(self, dropped: int | None = None) -> Statement:
        """The statement less its first `dropped` decorators (all, by default)."""
        node = self.node
        decorators: list[ast.expr] = getattr(node, "decorator_list", [])
        kept = [] if dropped is None else decorators[dropped:]
        skip = (kept[0].lineno if kept else node.lineno) - 1
        return Statement(text="\n".join(self.text.split("\n")[skip:]), first_line=self.first_line + skip)


@lru_cache(maxsize=256)
def parse(text: str) -> ast.Module:
    """Parse Python without its warnings, which the person has seen when running the cell. Do not change the tree.

    Raises:
        SyntaxError: the text is no Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except ValueError as error:  # null bytes
            raise SyntaxError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A text and its tree; they differ where magic lines were blanked for the parser."""

    text: str
    tree: ast.Module

    def statement(self, node: ast.stmt) -> Statement | None:
        """Cut a function or class out; None if what is cut is no Python (a magic inside)."""
        first, last = _first_line(node), node.end_lineno or node.lineno
        lines = self.text.split("\n")[first - 1 : last]
        inside_texts = {
            line
            for part in ast.walk(node)
            if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str | bytes))
            for line in range(part.lineno + 1, (part.end_lineno or part.lineno) + 1)
        }
        margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
        text = "\n".join(
            line if first + index in inside_texts else _without_margin(line, margin) for index, line in enumerate(lines)
        )
        try:
            parse(text)
        except SyntaxError:
            return None
        return Statement(text=text, first_line=first)


class Sources:
    """The texts in which definitions of one namespace are looked for.

    Args:
        namespace: the globals of the task function.
        source: the text of the cell that is being run, if the host knows it.
    """

    def __init__(self, namespace: Mapping[str, object], source: str | None = None) -> None:
        self._namespace = namespace
        self._given = source

    def function(self, function: FunctionType) -> Statement | None:
        """Find the `def` of a function by its file and line, decorators included."""
        code = function.__code__
        for text in filter(None, (self._given, _cached_text(code.co_filename))):
            cell = _cell(text)
            found = _find_def(cell.tree, code) if cell else None
            statement = cell.statement(found) if cell and found else None
            if statement:
                return statement
        return None

    def class_(self, cls: type) -> Statement | None:
        """Find the `class` statement of a class, decorators included."""
        for method in own_methods(cls):
            cell = _cell(_cached_text(method.__code__.co_filename))
            for node in _classes(cell, cls.__name__):
                if node.lineno <= method.__code__.co_firstlineno <= (node.end_lineno or node.lineno):
                    return cell.statement(node) if cell else None
        for cell in self._cells(cls.__name__):
            for node in _classes(cell, cls.__name__):
                if _agrees(node, cls):
                    return cell.statement(node)
        return None

    def assignment(self, name: str, line: int | None = None) -> Statement | None:
        """Find the latest `name = ...` or `type name = ...`, on one line of text; `line` is where it must stand, if known."""
        for cell in self._cells(name):
            for node in reversed(list(_top_level(cell.tree.body))):
                value = _assigned(node, name)
                if value and (line is None or node.lineno <= line <= (node.end_lineno or 0)):
                    return Statement(text=value, first_line=node.lineno)
        return None

    def imported(self, name: str) -> tuple[str, str] | None:
        """Find the latest `from module import attribute [as name]`: module and attribute."""
        for cell in self._cells(name):
            for node in reversed(list(ast.walk(cell.tree))):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    for alias in node.names:
                        if (alias.asname or alias.name) == name:
                            return node.module, alias.name
        return None

    def _cells(self, word: str) -> Iterator[_Cell]:
        for text in self._texts():
            if word in text and (cell := _cell(text)):
                yield cell

    def _texts(self) -> Iterator[str]:
        if self._given:
            yield self._given
        executed = self._namespace.get("In")
        if isinstance(executed, list):
            yield from (text for text in reversed(executed) if isinstance(text, str))
        file = self._namespace.get("__file__")
        if isinstance(file, str):
            yield _cached_text(file)
        for filename, entry in reversed(list(linecache.cache.items())):
            if len(entry) == 4 and entry[1] is None:  # no modification time: a cell, not a file
                yield _cached_text(filename)


def closure_of(function: FunctionType) -> dict[str, object]:
    """The variables that a function shares with the one it was defined in, as far as they have a value yet."""
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    found.pop("__class__", None)  # not a variable of anybody's, but what `super()` needs
    return found


def _cached_text(filename: str) -> str:
    linecache.checkcache(filename)
    return "".join(linecache.getlines(filename))


def _cell(text: str) -> _Cell | None:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    blanked = "\n".join(_MAGIC_LINE.sub(r"\1pass", line) for line in text.split("\n"))
    for attempt in (text, blanked):
        try:
            tree = parse(attempt)
        except (SyntaxError, RecursionError):
            continue
        inner = _magic_body(tree)
        return _cell(inner) if inner is not None else _Cell(text=text, tree=tree)
    return None


def _magic_body(tree: ast.Module) -> str | None:
    """The cell below a `%%magic` line, as `In` keeps it: `get_ipython().run_cell_magic(name, line, body)`."""
    match tree.body:
        case [ast.Expr(value=ast.Call(func=ast.Attribute(attr="run_cell_magic"), args=[_, _, ast.Constant(value=str(body))]))]:
            return body
    return None


def _find_def(tree: ast.Module, code: CodeType) -> ast.stmt | None:
    """The `def` of `code`: the one on its line, else (a magic may have moved lines) the last that takes the same arguments."""
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    wanted = ast.AsyncFunctionDef if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR) else ast.FunctionDef
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, wanted) and node.name == code.co_name and _argument_names(node.args) == arguments
    ]
    on_line = [node for node in found if _first_line(node) == code.co_firstlineno]
    return next(iter(on_line or reversed(found)), None)


def _argument_names(arguments: ast.arguments) -> tuple[str, ...]:
    return tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a cell that act on its namespace, those within `if`, `with` and `try` too."""
    for node in body:
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            yield from _top_level([part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)])


def _classes(cell: _Cell | None, name: str) -> list[ast.ClassDef]:
    if cell is None:
        return []
    return [node for node in reversed(list(ast.walk(cell.tree))) if isinstance(node, ast.ClassDef) and node.name == name]


def own_methods(cls: type) -> Iterator[FunctionType]:
    """The functions written in the class's own body, seen through property, classmethod and the like."""
    for value in list(vars(cls).values()):
        # Looked up statically: an attribute access can set off code, such as pydantic's late building of a model.
        for part in (value, *(inspect.getattr_static(value, name, None) for name in ("__func__", "fget", "__wrapped__"))):
            if isinstance(part, FunctionType) and part.__code__.co_qualname.startswith(f"{cls.__qualname__}."):
                yield part


def _agrees(node: ast.ClassDef, cls: type) -> bool:
    """Whether a class statement can be the one that made `cls`: its fields, methods and plain values are all there."""
    own = vars(cls)
    fields = own.get("__annotations__", {})
    members = {**own, **own.get("_member_map_", {}), **(own.get("__pydantic_fields__") or {})}
    hinted = [part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    if not set(hinted) <= set(fields) or (len(hinted) < len(fields) and not hasattr(cls, "__total__")):
        return False
    for part in node.body:
        match part:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if name not in members and not name.startswith("__"):
                    return False
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value))
            ):
                if name in members and _plain(members[name], value) != value:
                    return False
    members_made = set(own.get("_member_map_", ()))
    return members_made <= _assigned_names(node) <= {*own, *members_made} if "_member_map_" in own else True


def _plain(member: object, otherwise: object) -> object:
    """The value behind a class attribute, an enum member or a pydantic field; `otherwise` where it cannot be told."""
    for attribute in ("_value_", "default"):
        member = getattr(member, attribute, member)
    return member if isinstance(member, str | bytes | int | float | None) else otherwise


def _assigned_names(node: ast.ClassDef) -> set[str]:
    targets = [target for part in node.body if isinstance(part, ast.Assign) for target in part.targets]
    names = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def _assigned(node: ast.AST, name: str) -> str | None:
    match node:
        case ast.Assign(targets=targets, value=value) if any(isinstance(part, ast.Name) and part.id == name for part in targets):
            return f"{name} = {ast.unparse(value)}"
        case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
            return f"{name} = {ast.unparse(value)}"
    if type(node).__name__ == "TypeAlias" and getattr(getattr(node, "name", None), "id", None) == name:
        return ast.unparse(node)
    return None


def _without_margin(line: str, margin: str) -> str:
    if line.startswith(margin):
        return line[len(margin) :]
    return line.lstrip() if len(line) - len(line.lstrip()) < len(margin) else line
