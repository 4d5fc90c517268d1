"""What in a task's own code a replay would do again, or see differently: found when the task is defined.

Each find is one line: where it stands, what is wrong with it, what to write instead. It is a note, never a refusal. The comment
``# durable: ok`` on a line keeps its finds quiet; on the line of a function's ``def`` those of the whole function.

Invariant: syntax trees only; nothing is executed or imported. Names mean what the captured definition says they mean, so an alias
(``import time as t``, ``from datetime import datetime as dt``, in whichever cell) is seen through, and a local variable that
happens to be called ``random`` is not taken for the module. What is handed to a memo or step may do all of this: it runs once.

Limits: only direct calls are followed, into helpers that were captured with the task; what a library does inside is not seen.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from durable_nb.definitions import values
from durable_nb.definitions.hazards import BLOCKS, MUTATORS, RECORDED_ONCE, hazard_of
from durable_nb.definitions.records import UNDEFINED, Code, Constant, Definition, FromImport, Import, Reference
from durable_nb.definitions.sources import parse

QUIET = "durable: ok"
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, order=True)
class Find:
    """One find. `str()` is the line for the person.

    Attributes:
        line: the line of the cell in which `function` stands.
        function: the task, or the helper of its that does it.
        text: what it does, and what to write instead.
    """

    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"`{self.function}`, line {self.line}: {self.text}"


def lint(definition: Definition, *, is_durable: bool = True) -> list[Find]:
    r"""Find what a replay of a durable task would do again or see differently.

    Args:
        definition: what `capture` made of the task.
        is_durable: else it is a regular task: of an async one, only what blocks the engine's loop is found.

    Returns:
        The finds, the task's own first, each list in order of line.

    Example:
        >>> print(*lint(definition), sep="\n")  # doctest: +SKIP
        `review`, line 4: datetime.now() reads the clock, which a replay sees differently: use `await ctx.aio_now()`.
    """
    try:
        return list(_finds(definition, is_durable=is_durable))
    except RecursionError:  # code that is nested deeper than Python's own stack is no reason to refuse it
        return []


def _finds(definition: Definition, *, is_durable: bool) -> Iterator[Find]:
    body = parse(definition.source).body[0]
    if not is_durable and not isinstance(body, ast.AsyncFunctionDef):
        return
    names, todo, seen = _Names(definition), deque([definition.name]), {definition.name}
    helpers = {binding.name: binding for binding in definition.bindings if isinstance(binding, Code)}
    context = _context_name(body)
    while todo:
        name = todo.popleft()
        code = definition if name == definition.name else helpers[name]
        function = parse(code.source).body[0]
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        walk = _Walk(names, context, quiet_lines(code.source), is_durable=is_durable)
        walk.enter(function)
        yield from sorted({Find(line + code.first_line - 1, name, text) for line, text in walk.found})
        fresh = sorted(called for called in walk.called if called in helpers and called not in seen)
        seen.update(fresh)
        todo += fresh


def quiet_lines(source: str) -> frozenset[int]:
    """Give the lines that carry the comment ``# durable: ok``."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return frozenset()
    return frozenset(
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and QUIET in " ".join(token.string.lower().replace(":", ": ").split())
    )


def _context_name(body: ast.stmt) -> str:
    arguments = (
        body.args if isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef) else ast.arguments([], [], None, [], [], None, [])
    )
    parameters = [*arguments.posonlyargs, *arguments.args]
    return parameters[1].arg if len(parameters) > 1 else "ctx"


class _Names:
    """What the global names of the captured code mean."""

    def __init__(self, definition: Definition) -> None:
        self.meaning: dict[str, str] = {}
        self.tasks = {loss.name for loss in definition.lost if loss.type_name == UNDEFINED}
        self.mutable: set[str] = set()
        for binding in definition.bindings:
            match binding:
                case Import():
                    self.meaning[binding.name] = binding.module
                case FromImport():
                    self.meaning[binding.name] = f"{binding.module}.{binding.attribute}"
                case Reference(target="app"):
                    self.meaning[binding.name] = "durable_nb.app"
                case Reference():
                    self.tasks.add(binding.name)
                case Constant():
                    self._add_constant(binding.name, values.decode(binding.value))

    def _add_constant(self, name: str, value: object) -> None:
        if isinstance(value, list | dict | set):
            self.mutable.add(name)
        elif isinstance(value, Path):
            self.meaning[name] = "pathlib.Path()"


@dataclass
class _Scope:
    """The names that a function binds: what each means where that is known ('' where not)."""

    names: dict[str, str] = field(default_factory=dict)
    memoised: set[str] = field(default_factory=set)  # functions that are handed to a memo or step
    refs: set[str] = field(default_factory=set)  # refs of runs that were started without waiting
    globals: set[str] = field(default_factory=set)


class _Walk:
    """One function's tree, looked through once."""

    def __init__(self, names: _Names, context: str, quiet: Set[int], *, is_durable: bool) -> None:
        self.found: list[tuple[int, str]] = []
        self.called: set[str] = set()
        self._names = names
        self._context = context
        self._quiet = quiet
        self._is_durable = is_durable
        self._scopes: list[_Scope] = []

    def enter(self, function: Function) -> None:
        """Look through a function, which is called where it stands or later, outside of every memo."""
        if not isinstance(function, ast.Lambda) and function.lineno in self._quiet:
            return
        self._scopes.append(_scope_of(function, self))
        for statement in function.body if isinstance(function.body, list) else [function.body]:
            self._look(statement)
        self._scopes.pop()

    # ------------------------------------------------------------ what names mean

    def meaning(self, node: ast.expr) -> str:
        """Give the dotted path that an expression stands for, such as ``pathlib.Path().read_text``; '' where unknown."""
        match node:
            case ast.Name(id=name):
                return self._meaning_of_name(name)
            case ast.Attribute(value=value, attr=attribute):
                base = self.meaning(value)
                return f"{base}.{attribute}" if base else ""
            case ast.Call(func=function):
                base = self.meaning(function)
                if base.startswith("pathlib.Path()."):
                    return "pathlib.Path()" if base.rpartition(".")[2] in ("joinpath", "expanduser", "with_suffix") else ""
                return "pathlib.Path()" if base.startswith("pathlib.Path.") else f"{base}()" if base else ""
            case ast.BinOp(left=left, op=ast.Div()):
                return "pathlib.Path()" if self.meaning(left).startswith("pathlib.Path()") else ""
            case ast.Await(value=value):
                return self.meaning(value)
        return ""

    def _meaning_of_name(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope.names:
                return scope.names[name]
        if name in self._names.meaning:
            return self._names.meaning[name]
        return f"builtins.{name}" if name in ("open", "input") else ""

    def _is_global(self, name: str) -> bool:
        return not any(name in scope.names for scope in self._scopes)

    # ------------------------------------------------------------ looking

    def _find(self, node: ast.stmt | ast.expr, text: str) -> None:
        if not self._quiet & set(range(node.lineno, (node.end_lineno or node.lineno) + 1)):
            self.found.append((node.lineno, f"{text}."))

    def _look(self, node: ast.AST) -> None:
        match node:
            case ast.Lambda():
                self.enter(node)
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for part in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
                    self._look(part)
                if not any(node.name in scope.memoised for scope in self._scopes):
                    self.enter(node)
                return
            case ast.Call():
                self._look_at_call(node)
                return
            case ast.For() | ast.AsyncFor() | ast.comprehension() if self._is_durable and self._is_set(node.iter):
                self._find(
                    node.iter,
                    "the order of a set is another one in every process, so a replay may ask otherwise: use `sorted(…)`",
                )
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Delete() if self._is_durable:
                self._look_at_targets(node)
        for child in ast.iter_child_nodes(node):
            self._look(child)

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("set", "frozenset")
            and self._is_global(node.func.id)
        )

    def _look_at_call(self, call: ast.Call) -> None:
        function = call.func
        if isinstance(function, ast.Name) and self._is_global(function.id):
            self.called.add(function.id)
        arguments: list[ast.AST] = [*call.args, *call.keywords]
        if isinstance(function, ast.Attribute) and function.attr in RECORDED_ONCE and self._is_durable:
            once = _once(call)
            arguments = [
                argument for argument in arguments if argument is not once and getattr(argument, "value", None) is not once
            ]
            if once is not None and not isinstance(once, ast.Name | ast.Lambda):
                arguments += [*once.args[1:], *once.keywords] if isinstance(once, ast.Call) else [once]
        else:
            self._judge(call)
        self._look(function)
        for argument in arguments:
            self._look(argument)

    def _judge(self, call: ast.Call) -> None:
        path, shown = self.meaning(call.func), ast.unparse(call.func)
        found = hazard_of(path, shown, call, self._context)
        if found and (self._is_durable or found.kind == BLOCKS):
            self._find(call, found.text)
        elif text := self._sync_call(call.func, path, shown):
            self._find(call, text)
        elif self._is_durable and isinstance(call.func, ast.Attribute) and call.func.attr in MUTATORS:
            self._look_at_change(call, call.func.value)

    def _sync_call(self, function: ast.expr, path: str, shown: str) -> str:
        """Give what is wrong with a synchronous form, which cannot be called on the engine's own thread."""
        if not isinstance(function, ast.Attribute):
            return ""
        owner, form = function.value, function.attr
        is_task = isinstance(owner, ast.Name) and owner.id in self._names.tasks and self._is_global(owner.id)
        is_ref = isinstance(owner, ast.Name) and any(owner.id in scope.refs for scope in self._scopes)
        is_app = path.startswith("durable_nb.app.") and path.count(".") == 3 and not form.startswith(("aio_", "get_run_ref"))
        if (form in ("run", "run_many") and is_task) or (form == "result" and is_ref) or is_app:
            aio = f"{shown.rpartition('.')[0]}.aio_{form}(…)"
            return f"{shown}() is synchronous and would wait for the engine that runs it: use `await {aio}`"
        return ""

    def _look_at_targets(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) -> None:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        for target in [part for whole in targets for part in _parts(whole)]:
            if isinstance(target, ast.Name):
                if any(target.id in scope.globals for scope in self._scopes):
                    self._find(node, _changes(target.id))
            elif isinstance(target, ast.Subscript | ast.Attribute):
                self._look_at_change(node, target.value)

    def _look_at_change(self, node: ast.stmt | ast.expr, owner: ast.expr) -> None:
        while isinstance(owner, ast.Subscript | ast.Attribute):
            owner = owner.value
        if isinstance(owner, ast.Name) and owner.id in self._names.mutable and self._is_global(owner.id):
            self._find(node, _changes(owner.id))


def _changes(name: str) -> str:
    return (
        f"it changes the global `{name}`, which starts anew after a restart while recorded work is not done again: keep it in a "
        "local variable, or return it"
    )


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            yield from _parts(item)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def _once(call: ast.Call) -> ast.expr | None:
    """Give what a call of aio_memo or aio_step runs once: its first argument, or `fn`."""
    if call.args:
        return call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == "fn"), None)


def _scope_of(function: Function, walk: _Walk) -> _Scope:
    """Give the names that a function binds itself, those of functions within it left out."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    scope = _Scope({parameter.arg: "" for parameter in parameters if parameter is not None})
    nodes = list(_own(function))
    for node in nodes:
        match node:
            case ast.Global(names=names):
                scope.globals.update(names)
            case ast.Import(names=aliases):
                scope.names |= {(item.asname or item.name.partition(".")[0]): _imported(item) for item in aliases}
            case ast.ImportFrom(module=module, names=aliases):
                scope.names |= {(item.asname or item.name): f"{module}.{item.name}" for item in aliases}
            case ast.Call(func=ast.Attribute(attr=attribute)) if attribute in RECORDED_ONCE:
                once = _once(node)
                if isinstance(once, ast.Call) and once.args:  # a partial
                    once = once.args[0]
                if isinstance(once, ast.Name):
                    scope.memoised.add(once.id)
            case ast.Name(id=name, ctx=ast.Store()):
                scope.names.setdefault(name, "")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                scope.names.setdefault(name, "")
    scope.names = {name: meaning for name, meaning in scope.names.items() if name not in scope.globals}
    scope.memoised -= {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    walk._scopes.append(scope)
    for name, value in _assigned_once(nodes).items():
        scope.names[name] = walk.meaning(value)
        call = value.value if isinstance(value, ast.Await) else value
        if isinstance(call, ast.Call) and _is_ref(call, scope.names[name]):
            scope.refs.add(name)
    walk._scopes.pop()
    return scope


def _imported(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]


def _is_ref(call: ast.Call, meaning: str) -> bool:
    is_unwaited = any(
        keyword.arg == "wait_for_result" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in call.keywords
    )
    return is_unwaited or meaning.endswith(".get_run_ref()")


def _assigned_once(nodes: list[ast.AST]) -> Mapping[str, ast.expr]:
    """Give the values of the variables that are assigned in one place only."""
    stored: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            stored[node.id] = stored.get(node.id, 0) + 1
    return {
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and stored[node.targets[0].id] == 1
    }


def _own(function: Function) -> Iterator[ast.AST]:
    """Give the nodes of a function's body; of what stands within functions in it, nothing but their heads."""
    todo: deque[ast.AST] = deque(function.body if isinstance(function.body, list) else [function.body])
    while todo:
        node = todo.popleft()
        yield node
        if not isinstance(node, _FUNCTIONS):
            todo.extend(ast.iter_child_nodes(node))
