"""Which global names a statement reads, and when.

A binding must stand before whatever reads it *while being defined* (a base class, a decorator, a default value), whereas
what is read only *when called* may come later, which is how mutually recursive helpers work. The compiler's own symbol
table decides what is global, so that comprehensions, class bodies, `global`, private names and type parameters are right by
construction; annotations are read apart, since they may be text.
"""

from __future__ import annotations

import ast
import copy
import symtable
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}
_LAZY_SCOPES = {"TypeVar bound", "type variable", "type alias"}


@dataclass(kw_only=True)
class Names:
    """The global names that a statement reads.

    Attributes:
        eager: read while the statement itself is executed.
        soft: wanted by then (annotations that are text, aliases that are evaluated late), but nothing breaks without.
        late: read when what the statement defines is called.
        assigned: given a value by a `global` statement, so that they may be undefined before.
        bound: bound somewhere inside the statement; an annotation may mean these.
        hints: read in annotations that are evaluated.
    """

    eager: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    hints: set[str] = field(default_factory=set)

    @property
    def all(self) -> set[str]:
        """Every name, however it is read."""
        return self.eager | self.soft | self.late

    @property
    def required(self) -> set[str]:
        """The names without which the statement fails, at once or when called."""
        return (self.eager | self.late) - self.assigned - (self.hints & self.bound)


def names_of(statement: ast.stmt, *, future_annotations: bool = False) -> Names:
    """Find the global names that `statement` (a function, a class, an assignment) reads.

    The statement's own name counts as read late where the statement refers to itself.

    Example:
        >>> names_of(ast.parse("def f(x=DEFAULT): return helper(x)").body[0]).late
        {'helper'}
    """
    names = Names(bound=set(_bound(statement)))
    bare = _WithoutHints().visit(globalise(copy.deepcopy(statement)))
    # In a function, the variables of a comprehension never look global, whatever the Python version.
    text = "def wrapper():\n" + textwrap.indent(ast.unparse(bare), " ")
    top = symtable.symtable(text, "<names>", "exec")
    _read_scope(top.get_children()[0], names, own=_own_name(statement), eager=True)
    _Hints(names, future_annotations).visit(statement)
    _read_classes(statement, names, called=False)
    return names


def globalise(statement: ast.stmt) -> ast.stmt:
    """Turn `nonlocal x` into `global x` where the statement itself does not hold the scope of x.

    A function that was defined inside another is captured alone; what it shared with the outer one becomes a global of its
    namespace, so its `nonlocal` must say so.
    """
    _Globalise().visit(statement)
    return statement


def line_of(name: str, statement: ast.stmt) -> int | None:
    """The first line, counted within the statement's own text, on which `name` is read."""
    lines = [node.lineno for node in ast.walk(statement) if isinstance(node, ast.Name) and node.id == name]
    return min(lines, default=None)


def attribute_paths(name: str, statement: ast.stmt) -> set[str]:
    """The dotted paths that are read from `name`: `np.random.default_rng` gives `random` and `random.default_rng`."""
    paths = set()
    for node in ast.walk(statement):
        parts: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name) and inner.id == name:
            paths.add(".".join(reversed(parts)))
    return paths


def _own_name(statement: ast.stmt) -> str:
    return statement.name if isinstance(statement, Function | ast.ClassDef) else ""


def _arguments(node: Function) -> list[ast.arg]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return [argument for argument in arguments if argument]


def _read_scope(table: symtable.SymbolTable, names: Names, *, own: str, eager: bool) -> None:
    lazy = str(table.get_type()) in _LAZY_SCOPES
    for symbol in table.get_symbols():
        name = symbol.get_name()
        if symbol.is_global() and (symbol.is_assigned() or symbol.is_imported()):
            names.assigned.add(name)
        if symbol.is_referenced() and (symbol.is_global() or (name == own and symbol.is_free())):
            (names.eager if eager and name != own else names.late).add(name)
            if lazy:
                names.soft.add(name)
    for child in table.get_children():
        kind = str(child.get_type())
        runs_at_once = kind == "class" or kind.startswith("type parameter") or child.get_name() in _COMPREHENSIONS
        _read_scope(child, names, own=own, eager=eager and runs_at_once)


def _read_classes(node: ast.AST, names: Names, *, called: bool) -> None:
    """Add what class bodies read before they assign it: `class A: limit = limit` reads the global first.

    The symbol table cannot tell, since the order decides. These are never required: a class that exists has found them.
    """
    for child in ast.iter_child_nodes(node):
        _read_classes(child, names, called=called or isinstance(node, Function | ast.Lambda))
    if not isinstance(node, ast.ClassDef):
        return
    stored: set[str] = set()
    for statement in node.body:
        direct = list(_same_scope(statement))
        loaded = {part.id for part in direct if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        stores = set().union(*(_bound_here(part) for part in direct))
        names.soft |= (loaded & stores) - stored
        stored |= stores


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Walk `node` without entering the bodies of functions and classes, nor the texts of annotations."""
    yield node
    if isinstance(node, Function):
        inner: list[ast.AST] = [*node.decorator_list, *node.args.defaults, *(value for value in node.args.kw_defaults if value)]
    elif isinstance(node, ast.ClassDef):
        inner = [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, ast.Lambda):
        inner = []
    else:
        inner = list(ast.iter_child_nodes(node))
    for child in inner:
        yield from _same_scope(child)


def _bound(statement: ast.AST) -> Iterator[str]:
    for node in ast.walk(statement):
        yield from _bound_here(node)


def _bound_here(node: ast.AST) -> set[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            return {name}
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return {name}
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return {name}
        case ast.alias(name=name, asname=alias):
            return {alias or name.partition(".")[0]}
    if type(node).__name__ in {"TypeVar", "ParamSpec", "TypeVarTuple"}:  # PEP 695, Python 3.12 and later
        return {str(getattr(node, "name", ""))}
    return set()


class _Globalise(ast.NodeTransformer):
    """Rewrites the names of `nonlocal` statements that no enclosing function of the tree binds."""

    def __init__(self) -> None:
        self.scopes: list[set[str]] = []

    def visit_FunctionDef(self, node: Function) -> ast.AST:
        inside = [inner for part in node.body for inner in _same_scope(part)]
        elsewhere = {name for inner in inside if isinstance(inner, ast.Nonlocal | ast.Global) for name in inner.names}
        local = {argument.arg for argument in _arguments(node)}.union(*(_bound_here(inner) for inner in inside))
        self.scopes.append(local - elsewhere)
        self.generic_visit(node)
        self.scopes.pop()
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Nonlocal(self, node: ast.Nonlocal) -> list[ast.stmt]:
        held = [name for name in node.names if any(name in scope for scope in self.scopes[:-1])]
        outside = [name for name in node.names if name not in held]
        parts = [ast.Nonlocal(names=held)] if held else []
        return [*parts, *([ast.Global(names=outside)] if outside else [])]


class _WithoutHints(ast.NodeTransformer):
    """Takes annotations out, but leaves a bare `x: int` binding its name."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: Function) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(value=None)
        return self.generic_visit(node)


class _Hints(ast.NodeVisitor):
    """Collects the names in annotations: those of a signature or a class body are evaluated, those of local variables never."""

    def __init__(self, names: Names, future: bool) -> None:
        self.names = names
        self.future = future
        self.depth = 0
        self.in_class = False

    def visit_FunctionDef(self, node: Function) -> None:
        for hint in (*(argument.annotation for argument in _arguments(node)), node.returns):
            if hint is not None:
                self._read(hint, evaluated=not self.future)
        outer, self.in_class = self.in_class, False
        self.depth += 1
        for part in node.body:
            self.visit(part)
        self.depth -= 1
        self.in_class = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self.in_class = self.in_class, True
        self.generic_visit(node)
        self.in_class = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._read(node.annotation, evaluated=not self.future and (self.in_class or self.depth == 0))

    def _read(self, hint: ast.expr, *, evaluated: bool) -> None:
        for name, is_text in _hint_names(hint):
            if is_text or not evaluated:
                self.names.soft.add(name)
            else:
                self.names.hints.add(name)
                (self.names.late if self.depth else self.names.eager).add(name)


def _hint_names(hint: ast.expr, is_text: bool = False) -> Iterator[tuple[str, bool]]:
    match hint:
        case ast.Constant(value=str(text)):
            try:
                yield from _hint_names(ast.parse(text.strip(), mode="eval").body, is_text=True)
            except SyntaxError:
                return
        case ast.Name(id=name):
            yield name, is_text
        case ast.Subscript(value=base, slice=index):
            yield from _hint_names(base, is_text)
            kind = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
            texts_are_types = kind != "Literal"
            parts = index.elts if isinstance(index, ast.Tuple) else [index]
            for position, part in enumerate(parts):
                if kind == "Annotated" and position:
                    texts_are_types = False
                if texts_are_types or not isinstance(part, ast.Constant):
                    yield from _hint_names(part, is_text)
        case _:
            for child in ast.iter_child_nodes(hint):
                if isinstance(child, ast.expr):
                    if isinstance(hint, ast.Call) and isinstance(child, ast.Constant):
                        continue  # Field(description="some words") names nothing
                    yield from _hint_names(child, is_text)
                elif isinstance(child, ast.keyword) and not isinstance(child.value, ast.Constant):
                    yield from _hint_names(child.value, is_text)
