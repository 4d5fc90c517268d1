"""From a live function to a definition: its source and all that it needs.

Everything that the function's code names is looked up where the function itself would find it, and classified as an import, a
helper's source, a constant, a reference to something of the host, or a loss. Helpers are followed in the same way.

Invariant: nothing of the captured code is executed here; sources are parsed, and live values are only looked at. The rebuilt
namespace is flat: names from a closure become globals of it, and a name that means two things is a loss.

Limits, all of which show themselves at definition or behave the same before and after a restart, since a task always executes
in the captured namespace: names that `eval`, `exec` or `globals()[...]` look up are not seen; a mutable constant is a copy, so
changes to it from a task do not reach the notebook, nor the other way round; a helper's default values are evaluated again on
rebuild; attributes set on a class after its definition are not kept, nor is what only registers itself (a subclass, a handler)
without being named by the code.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import inspect
import operator
import typing
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import FunctionType, GenericAlias, ModuleType, UnionType

from durable_nb.definitions import lost as losses, origins, values
from durable_nb.definitions.names import Names, attribute_paths, line_of, names_of
from durable_nb.definitions.normal import version_of
from durable_nb.definitions.order import in_order
from durable_nb.definitions.records import Binding, Code, Constant, Definition, Import, Lost, Reference
from durable_nb.definitions.sources import Sources, Statement, closure_of, own_methods
from durable_nb.errors import DeclarationError

_PROVIDED = {
    "__name__",
    "__doc__",
    "__builtins__",
    "__package__",
    "__spec__",
    "__loader__",
    "__debug__",
    "__module__",
    "__qualname__",
}
_DECLARATIVE = (functools.partial, operator.itemgetter, operator.attrgetter, operator.methodcaller)
_FUTURE = __future__.annotations.compiler_flag
_MISSING = object()


def capture(
    function: Callable[..., object], *, references: Mapping[int, str] | None = None, source: str | None = None
) -> Definition:
    r"""Capture a task function with all that it needs.

    Args:
        function: the function, as the task's decorator receives it.
        references: what the host binds again on rebuild: `id(object)` to a name for it, such as "app" or "task:score". The
            function's own name always becomes the reference "self".
        source: the text of the cell that defines it, if known; else it is found by the function's file and line.

    Returns:
        A definition. What could not be kept stands in its `lost`, as sentences for the person.

    Raises:
        DeclarationError: it is no function made by `def`, or its source cannot be found.

    Example:
        >>> definition = capture(score, references={id(durable): "app"})  # doctest: +SKIP
        >>> print(*definition.lost, sep="\n")  # doctest: +SKIP
        `df` (pandas.DataFrame), which `score` uses on line 7, cannot be kept with the task: pass it as input, …
    """
    if not isinstance(function, FunctionType) or function.__code__.co_name == "<lambda>":
        raise DeclarationError(
            f"{function!r} cannot be a task: a task is a function with a name. Define it with `def` or `async def`."
        )
    original = _original(function)
    sources = Sources(original.__globals__, source)
    statement = sources.function(original)
    if statement is None:
        raise DeclarationError(
            f"The source of `{original.__name__}` was not found, so it could not be restored after a restart. "
            "Define it with `def` in a notebook cell or a file, not through exec."
        )
    statement = _task_statement(statement, original, references or {}, wrapped=function is not original)
    return _Capture(original, statement, references or {}, sources).definition()


def _original(function: FunctionType) -> FunctionType:
    unwrapped = inspect.unwrap(function)
    return unwrapped if isinstance(unwrapped, FunctionType) else function


def _task_statement(statement: Statement, function: FunctionType, references: Mapping[int, str], *, wrapped: bool) -> Statement:
    """The function's text without the task's decorators: all of them, unless some had wrapped it before the host saw it.

    Those are the ones below the last that belongs to the host; they are part of what runs and stay.
    """
    node = statement.node
    if not wrapped or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return statement.without_decorators()
    outer = 0
    for index, decorator in enumerate(node.decorator_list):
        root: ast.expr = decorator
        while isinstance(root, ast.Call | ast.Attribute):
            root = root.func if isinstance(root, ast.Call) else root.value
        value = function.__globals__.get(root.id) if isinstance(root, ast.Name) else None
        if {id(value), id(getattr(value, "__self__", None))} & references.keys():
            outer = index + 1
    if outer == len(node.decorator_list):
        raise DeclarationError(
            f"`{function.__name__}` was wrapped by a call, which its source does not show. "
            "Write the wrapper as a decorator below the task's own."
        )
    return statement.without_decorators(outer)


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """Where the names of one piece of code are looked up."""

    closure: Mapping[str, object]
    namespace: Mapping[str, object]

    def find(self, name: str) -> object:
        return self.closure.get(name, self.namespace.get(name, _MISSING))


@dataclass(frozen=True, kw_only=True)
class _User:
    """A piece of captured code, whose names are to be found."""

    name: str
    statement: Statement
    names: Names
    scope: _Scope


class _Capture:
    """One capture: follows names from the function outwards until every one is bound or lost."""

    def __init__(self, function: FunctionType, statement: Statement, references: Mapping[int, str], sources: Sources) -> None:
        self.function = function
        self.name = function.__code__.co_name
        self.statement = statement
        self.references = references
        self.sources = sources
        self.home = str(function.__globals__.get("__name__", "__main__"))
        self.bound: dict[str, tuple[object, Binding]] = {}
        self.users: dict[str, _User] = {}
        self.lost: dict[str, Lost] = {}
        self.pending: deque[_User] = deque()

    def definition(self) -> Definition:
        name, code = self.name, self.function.__code__
        self.bound[name] = self.function, Reference(name=name, target="self")
        names = names_of(self.statement.node, future_annotations=bool(code.co_flags & _FUTURE))
        root = self._follow(name, self.statement, names, self._scope_of(self.function))
        if "__class__" in code.co_freevars:
            self._lose(root, "super", super, losses.NO_SUPER)
        uses_itself = False
        while self.pending:
            user = self.pending.popleft()
            for needed in sorted(user.names.all - _PROVIDED):
                uses_itself |= needed == name
                self._bind(needed, user)
        if not uses_itself:
            del self.bound[name]
        bindings = in_order(
            {key: (binding, self.users[key].names if key in self.users else None) for key, (_, binding) in self.bound.items()}
        )
        return Definition(
            name=name,
            source=self.statement.text,
            first_line=self.statement.first_line,
            bindings=bindings,
            lost=tuple(self.lost.values()),
            version=version_of(self.statement.text, bindings),
            future_annotations=bool(code.co_flags & _FUTURE),
        )

    def _follow(self, name: str, statement: Statement, names: Names, scope: _Scope) -> _User:
        user = _User(name=name, statement=statement, names=names, scope=scope)
        self.pending.append(user)
        return user

    def _bind(self, name: str, user: _User) -> None:
        value = user.scope.find(name)
        if name == self.name and user.scope.namespace is self.function.__globals__:
            return  # the task itself: in the notebook that name is, or will be, the task made of the function
        if value is _MISSING or origins.is_guarded_builtin(name, value):
            self._bind_builtin(name, user)
        elif name in self.bound:
            self._bind_again(name, value, user)
        elif name not in self.lost:
            try:
                self.bound[name] = value, self._classify(name, value, user)
            except losses.LossError as loss:
                self._lose(user, name, value, loss.advice)

    def _bind_builtin(self, name: str, user: _User) -> None:
        added = origins.notebook_builtin(name)
        if added and hasattr(builtins, name):
            self.bound.setdefault(name, (_MISSING, added))
        elif not hasattr(builtins, name) and name in user.names.required and name not in self.lost:
            self.lost[name] = losses.lost_name(name, line=self._line(user, name), used_by=user.name)

    def _bind_again(self, name: str, value: object, user: _User) -> None:
        before, binding = self.bound[name]
        if isinstance(binding, Import) and isinstance(value, ModuleType) and before is value:
            again = origins.import_of(name, value, attribute_paths(name, user.statement.node))
            submodules = {*binding.submodules, *(again.submodules if again else ())}
            self.bound[name] = value, replace(binding, submodules=tuple(sorted(submodules)))
        elif before is not value and not (isinstance(binding, Constant) and self._constant(name, value) == binding):
            self._lose(user, name, value, losses.TWO_MEANINGS)

    def _lose(self, user: _User, name: str, value: object, advice: str) -> None:
        self.lost[name] = losses.lost_value(name, value, line=self._line(user, name), used_by=user.name, advice=advice)

    @staticmethod
    def _line(user: _User, name: str) -> int:
        return user.statement.first_line + (line_of(name, user.statement.node) or 1) - 1

    # ------------------------------------------------------------ what a value is

    def _classify(self, name: str, value: object, user: _User) -> Binding:
        if id(value) in self.references:
            return Reference(name=name, target=self.references[id(value)])
        if isinstance(value, ModuleType):
            found = origins.import_of(name, value, attribute_paths(name, user.statement.node))
            if found is None:
                raise losses.LossError("")
            return found
        imported = origins.from_import_of(name, value, home=self.home)
        if imported:
            return imported
        try:
            return Constant(name=name, value=values.encode(value))
        except values.OversizeError:
            large = True
        except values.UnkeepableError:
            large = False
        added = origins.notebook_builtin(name)
        if added and getattr(value, "__module__", "").startswith("IPython"):
            return added
        statement = self.sources.imported(name)
        found_import = statement and origins.from_module(name, value, module=statement[0], attribute=statement[1], home=self.home)
        if found_import:
            return found_import
        if large:
            raise losses.LossError(losses.TOO_LARGE)
        return self._code(name, value, user)

    @staticmethod
    def _constant(name: str, value: object) -> Constant | None:
        try:
            return Constant(name=name, value=values.encode(value))
        except values.UnkeepableError:
            return None

    def _code(self, name: str, value: object, user: _User) -> Code:
        helper = _function_behind(name, value)
        statement = self._helper(name, helper, value) if helper else None
        if helper and statement:
            scope, future = self._scope_of(helper), bool(helper.__code__.co_flags & _FUTURE)
        elif isinstance(value, type) and value.__name__ == name and (class_statement := self.sources.class_(value)):
            statement, scope, future = (
                class_statement,
                self._scope_of_class(value),
                _has_future_annotations(value, class_statement),
            )
        else:
            statement, scope, future = self._assignment(name, value, user), user.scope, False
        names = names_of(statement.node, future_annotations=future)
        self.users[name] = self._follow(name, statement, names, scope)
        return Code(name=name, source=statement.text, first_line=statement.first_line, future_annotations=future)

    def _helper(self, name: str, helper: FunctionType, value: object) -> Statement | None:
        """The statement that defined a helper; None for a lambda whose name is another than it was assigned to."""
        if len(getattr(value, "registry", ())) > 1 and hasattr(value, "dispatch"):
            raise losses.LossError(losses.REGISTERED)
        if helper.__name__ == "<lambda>":
            statement = self.sources.assignment(name, line=helper.__code__.co_firstlineno)
            return statement if statement and statement.text.startswith(f"{name} = lambda") else None
        found = self.sources.function(helper)
        if found is None:
            raise losses.LossError(losses.DEFINE_WITH_DEF)
        decorated = bool(getattr(found.node, "decorator_list", []))
        if not decorated and helper is not value:
            raise losses.LossError(losses.DEFINE_WITH_DEF)  # wrapped by a call after its definition
        if not decorated and any(not key.startswith("__") for key in vars(helper)):
            raise losses.LossError(losses.ATTRIBUTES)
        return found

    def _assignment(self, name: str, value: object, user: _User) -> Statement:
        """The assignment that made a type, a type alias, or an alias of a captured function; nothing else is made again."""
        if not isinstance(value, (type, FunctionType, *_DECLARATIVE)) and not _is_type_form(value):
            raise losses.LossError("")
        statement = self.sources.assignment(name)
        if statement is None:
            raise losses.LossError("" if not _is_type_form(value) else losses.DEFINE_CLASS)
        node = statement.node
        if isinstance(value, type | FunctionType) and isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            if user.scope.find(node.value.id) is value:
                return statement
            raise losses.LossError(losses.DEFINE_WITH_DEF)
        if isinstance(value, FunctionType):
            raise losses.LossError(losses.DEFINE_WITH_DEF)
        return statement

    # ------------------------------------------------------------ where names are looked up

    @staticmethod
    def _scope_of(function: FunctionType) -> _Scope:
        return _Scope(closure=closure_of(function), namespace=function.__globals__)

    def _scope_of_class(self, cls: type) -> _Scope:
        own = list(own_methods(cls))
        if own:
            return _Scope(
                closure={key: item for method in own for key, item in closure_of(method).items()}, namespace=own[0].__globals__
            )
        return _Scope(closure={}, namespace=self.function.__globals__)


def _function_behind(name: str, value: object) -> FunctionType | None:
    """The function that `name` was defined as, seen through its decorators; None if the value is no decorated function.

    A function or lambda without decorators is itself. Behind a wrapper, what bears the name is looked for where decorators keep
    it: `__wrapped__`, the closure, the attributes.
    """
    if isinstance(value, FunctionType) and value.__name__ == name and not hasattr(value, "__wrapped__"):
        return value
    seen: set[int] = set()
    queue = deque([(value, 0)])
    while queue:
        item, depth = queue.popleft()
        if id(item) in seen or isinstance(item, type | ModuleType):
            continue
        seen.add(id(item))
        wrapped = inspect.getattr_static(item, "__wrapped__", None)
        if isinstance(item, FunctionType) and item.__code__.co_name == name and wrapped is None:
            return item
        if depth < 4 and (callable(item) or depth == 0):
            inner = [wrapped, inspect.getattr_static(item, "__func__", None)]
            if isinstance(item, FunctionType):
                inner += closure_of(item).values()
            else:
                inner += list(getattr(item, "__dict__", {}).values())
            queue.extend((part, depth + 1) for part in inner if callable(part))
    return value if isinstance(value, FunctionType) and value.__name__ == "<lambda>" else None


def _is_type_form(value: object) -> bool:
    """Whether a value is a type expression, such as `list[int]`, `Literal["a"]`, a TypeVar, or a pydantic TypeAdapter."""
    kind = type(value)
    if isinstance(value, GenericAlias | UnionType) or typing.get_origin(value) is not None:
        return True
    return kind.__module__ in {"typing", "typing_extensions"} or (
        kind.__name__ == "TypeAdapter" and kind.__module__.startswith("pydantic")
    )


def _has_future_annotations(cls: type, statement: Statement) -> bool:
    """Whether a class was compiled with `from __future__ import annotations`: annotations are text where the source has none."""
    node = statement.node
    kept = vars(cls).get("__annotations__", {})
    for part in node.body if isinstance(node, ast.ClassDef) else ():
        if (
            isinstance(part, ast.AnnAssign)
            and isinstance(part.target, ast.Name)
            and not isinstance(part.annotation, ast.Constant)
        ):
            return isinstance(kept.get(part.target.id), str | typing.ForwardRef)
    return any(method.__code__.co_flags & _FUTURE for method in own_methods(cls))
