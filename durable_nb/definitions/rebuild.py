"""From a definition back to a function, in a namespace of its own.

The namespace is a real module in `sys.modules`, so that type hints, pydantic's forward references, dataclasses and enums find
their names; its globals are a plain dict, so that calls are as fast as anywhere. References to the host (its app, other tasks)
are resolved while rebuilding where they can be; one that cannot be yet, since its task is defined later, stays unbound, is
named by `unbound`, and is set by `bind` when it is there. Rejected: a proxy object (the person would see it) and a dict with
`__missing__` as globals (the interpreter's fast path for globals would be gone for good).

Invariant: this is the only place that executes captured code. Verify the definition's signature before calling it.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import inspect
import linecache
import sys
import warnings
from collections.abc import Callable
from threading import Lock
from types import CodeType, FunctionType, ModuleType
from typing import Any

from durable_nb.definitions import origins, values
from durable_nb.definitions.classes import Classes, class_key
from durable_nb.definitions.names import globalise
from durable_nb.definitions.records import Code, Constant, Definition, FromImport, Import, Reference
from durable_nb.definitions.sources import closure_of
from durable_nb.errors import DeclarationError

PREFIX = "durable_nb.restored"
_naming = Lock()


class Namespace(ModuleType):
    """The module in which a rebuilt function lives.

    The facts about it are kept in slots, since everything in a module's dict is a global of the captured code.
    """

    __slots__ = ("_files", "_notes", "_unbound")
    _files: list[str]
    _notes: list[str]
    _unbound: dict[str, str]


def rebuild(
    definition: Definition,
    *,
    resolve: Callable[[str], object],
    filename: str,
    live: FunctionType | None = None,
    classes: Classes | None = None,
) -> FunctionType:
    """Execute a definition in a fresh namespace and return its function.

    Args:
        definition: what `capture` made. Its code is executed: it must be trusted.
        resolve: gives the object for a reference ("app", "task:score", "self"), or raises LookupError if it is not there yet.
        filename: the name under which tracebacks show the source, such as "<durable score>". Lines are those of the cell.
        live: the function in the notebook, from which names that could not be kept are taken as they are now. Without it,
            such a definition is refused.
        classes: what earlier calls have rebuilt; a class that is the same in both definitions is then one object.

    Raises:
        DeclarationError: something was lost and there is no `live`, or the code fails: a module is missing, for example.

    Example:
        >>> function = rebuild(definition, resolve={"app": durable}.__getitem__, filename="<durable score>")  # doctest: +SKIP
    """
    if definition.lost and live is None:
        sentences = " ".join(map(str, definition.lost))
        raise DeclarationError(f"`{definition.name}` cannot be restored. {sentences} Run its cell again.")
    namespace = _register(definition)
    step = "reading its bindings"
    try:
        _take_live(definition, namespace, live)
        for binding in definition.bindings:
            step = f"binding `{binding.name}`"
            match binding:
                case Code():
                    _run_shared(binding, definition, namespace, classes or Classes(), filename=filename)
                case Reference():
                    _resolve(namespace, binding, resolve)
                case _:
                    vars(namespace)[binding.name] = _value(binding, namespace)
        step = "defining it"
        return _define(definition, namespace, filename)
    except BaseException as error:
        _discard(namespace)
        if not isinstance(error, Exception):
            raise
        raise DeclarationError(
            f"`{definition.name}` could not be restored: {step} failed with {type(error).__name__}: {error}. "
            "Mend that in this environment, or run the task's cell again."
        ) from error


def unbound(function: FunctionType) -> dict[str, str]:
    """The names of a rebuilt function's namespace that still wait for `bind`, with the reference each stands for ("" if lost)."""
    return dict(_namespace(function)._unbound)


def bind(function: FunctionType, name: str, value: object) -> None:
    """Set a name in a rebuilt function's namespace: a task that was defined later, or defined anew.

    Example:
        >>> bind(function, "score_group", task)  # doctest: +SKIP
    """
    namespace = _namespace(function)
    vars(namespace)[name] = value
    namespace._unbound.pop(name, None)


def notes(function: FunctionType) -> tuple[str, ...]:
    """What a person should know of a rebuilt function: the local modules that have changed since its definition."""
    return tuple(_namespace(function)._notes)


def discard(function: FunctionType) -> None:
    """Forget the namespace of a rebuilt function that nothing will call again; a long session would keep every version."""
    _discard(_namespace(function))


def _namespace(function: FunctionType) -> Namespace:
    namespace = sys.modules.get(function.__module__)
    if not isinstance(namespace, Namespace):
        raise DeclarationError(f"`{function.__name__}` was not rebuilt from a definition, so it has no namespace of its own.")
    return namespace


def _register(definition: Definition) -> Namespace:
    name = stem = f"{PREFIX}.{definition.name}.{definition.version}"
    with _naming:
        number = 1
        while name in sys.modules:  # two logs may hold the same task, each with its own app
            number += 1
            name = f"{stem}.{number}"
        namespace = Namespace(name, f"The captured namespace of the task `{definition.name}`.")
        namespace._files, namespace._notes, namespace._unbound = [], [], {}
        sys.modules[name] = namespace
    return namespace


def _discard(namespace: Namespace) -> None:
    sys.modules.pop(namespace.__name__, None)
    for filename in namespace._files:
        linecache.cache.pop(filename, None)


def _value(binding: Import | FromImport | Constant, namespace: Namespace) -> object:
    if isinstance(binding, Constant):
        return values.decode(binding.value)
    module: Any = importlib.import_module(binding.module)
    if isinstance(binding, Import):
        for submodule in binding.submodules:
            importlib.import_module(submodule)
    found = module
    for part in binding.attribute.split(".") if isinstance(binding, FromImport) else ():
        found = getattr(found, part)
    if binding.sha256 is not None:
        owner = binding.module if isinstance(binding, Import) else origins.owner_of(found, binding.module)
        if origins.local_hash(owner) != binding.sha256:
            namespace._notes.append(
                f"The local module `{owner}` has changed since the task was defined; the task uses it as it is now."
            )
    return found


def _resolve(namespace: Namespace, binding: Reference, resolve: Callable[[str], object]) -> None:
    try:
        vars(namespace)[binding.name] = resolve(binding.target)
    except LookupError:
        namespace._unbound[binding.name] = binding.target


def _take_live(definition: Definition, namespace: Namespace, live: FunctionType | None) -> None:
    if live is None:
        return
    original = inspect.unwrap(live)
    present = {**original.__globals__, **closure_of(original)}
    for loss in definition.lost:
        if loss.name in present:
            vars(namespace)[loss.name] = present[loss.name]
        else:
            namespace._unbound[loss.name] = ""


def _define(definition: Definition, namespace: Namespace, filename: str) -> FunctionType:
    task = vars(namespace).get(definition.name)
    _run(definition, namespace, filename=filename)
    function = vars(namespace)[definition.name]
    if not isinstance(function, FunctionType):
        raise TypeError(f"a decorator made it a {type(function).__name__}, and a task must be a function")
    if task is not None:
        vars(namespace)[definition.name] = task  # to its own code, the name means the task, not the bare function
    return function


def _run_shared(code: Code, definition: Definition, namespace: Namespace, classes: Classes, *, filename: str) -> None:
    key = class_key(code, definition)
    found = classes.find(key)
    if found is None:
        _run(code, namespace, filename=_helper_filename(filename, code.name))
        classes.keep(key, vars(namespace)[code.name])
    else:
        vars(namespace)[code.name] = found


def _run(code: Code | Definition, namespace: Namespace, *, filename: str) -> None:
    lines = [""] * (code.first_line - 1) + code.source.split("\n")
    linecache.cache[filename] = (len(code.source), None, [f"{line}\n" for line in lines], filename)
    namespace._files.append(filename)
    exec(_compile(code, filename), vars(namespace))  # noqa: S102  the one place; see the module's invariant


def _compile(code: Code | Definition, filename: str) -> CodeType:
    flags = __future__.annotations.compiler_flag if code.future_annotations else 0
    with warnings.catch_warnings():  # the person has seen the compiler's warnings when running the cell
        warnings.simplefilter("ignore")
        tree = ast.parse(code.source)
        tree.body = [globalise(statement) for statement in tree.body]
        ast.increment_lineno(tree, code.first_line - 1)
        compiled: CodeType = compile(ast.fix_missing_locations(tree), filename, "exec", flags=flags, dont_inherit=True)
    return compiled


def _helper_filename(filename: str, name: str) -> str:
    return f"{filename[:-1]}: {name}>" if filename.endswith(">") else f"{filename}: {name}"
