"""Dependencies: what a task function wants beside its input and context, made for each invocation and cleaned up at its end.

A parameter ``Annotated[T, Depends(fn)]`` gets what `fn` gives. Invariant: everything about a dependency that can be wrong before
it is called is refused where the task is declared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from durable_nb.errors import DeclarationError
from durable_nb.tasks.payload import hint_of


@dataclass(frozen=True)
class Depends:
    """Marks a parameter of a task, or of another dependency, as given by a function.

    Args:
        fn: takes ``(input, ctx)``, ``(input)`` or nothing, and dependencies of its own; sync (it gets a thread) or async. A
            generator function, sync or async, yields the value once and cleans up after it; so does one under
            `contextlib.contextmanager` or `asynccontextmanager`.

    It is called once for each invocation, before the task: for a durable task at each entry, replays included, so it is no place
    for what must happen once. It may ask the context for nothing that is a checkpoint. Its clean-up sees the error that ends the
    invocation, an eviction too, and cannot swallow it.

    Example:
        >>> async def connection(input: dict, ctx: Context):  # doctest: +SKIP
        ...     async with connect(input["host"]) as opened:
        ...         yield opened
        >>> @durable.task()  # doctest: +SKIP
        ... async def count(input: dict, ctx: Context, db: Annotated[Connection, Depends(connection)]) -> int:
        ...     return await db.count()
    """

    fn: Callable[..., Any]


@dataclass(frozen=True)
class Dependency:
    """A dependency that was looked at.

    Attributes:
        takes: how many of input and context it is given.
        needs: its own dependencies, by parameter.
    """

    fn: Callable[..., Any]
    takes: int
    needs: Mapping[str, Dependency]


def dependencies_of(function: Callable[..., Any]) -> dict[str, Dependency]:
    """Give the dependencies of a task function, by parameter.

    Raises:
        DeclarationError: one of them cannot work.
    """
    return {name: _look_at(depends, of=function, within=()) for name, depends in marked(function).items()}


def marked(function: Callable[..., Any]) -> dict[str, Depends]:
    """Give the parameters of a function that are marked with `Depends`."""
    plain = inspect.unwrap(function)
    found = {}
    for name in inspect.signature(function).parameters:
        hint = hint_of(plain, name) if inspect.isfunction(plain) else Any
        marks = [mark for mark in get_args(hint)[1:] if isinstance(mark, Depends)] if get_origin(hint) is Annotated else []
        if marks:
            found[name] = marks[0]
    return found


def _look_at(depends: Depends, *, of: Callable[..., Any], within: tuple[Callable[..., Any], ...]) -> Dependency:
    fn, user = depends.fn, getattr(of, "__name__", repr(of))
    if not callable(fn):
        raise DeclarationError(f"{user} depends on {fn!r}, which is no function: write Depends(function), without calling it.")
    name = getattr(fn, "__name__", type(fn).__name__)
    if fn in within:
        raise DeclarationError(f"{name} depends on itself, by way of {user}: a dependency is made before what needs it.")
    needs = {parameter: _look_at(needed, of=fn, within=(*within, fn)) for parameter, needed in marked(fn).items()}
    return Dependency(fn, _takes(fn, name, user, needs), needs)


def _takes(fn: Callable[..., Any], name: str, user: str, needs: Mapping[str, Dependency]) -> int:
    """Give how many positional arguments a dependency wants: input and context, in that order."""
    own = [parameter for key, parameter in inspect.signature(fn).parameters.items() if key not in needs]
    positional = [p for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    wanted = [p for p in own if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(positional) > 2 or len(wanted) > len(positional):
        raise DeclarationError(
            f"{user} depends on {name}, which takes ({', '.join(str(p) for p in own)}): a dependency takes its task's input "
            "and context, or less, and parameters that are marked with Depends."
        )
    return len(positional)
