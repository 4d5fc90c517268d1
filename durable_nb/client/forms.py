"""Sync forms: each is its aio form, called through the engine's thread. Made here and nowhere else."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from durable_nb.client.app import Durable

P = ParamSpec("P")
R = TypeVar("R")
G = TypeVar("G", bound="Group")


class Group:
    """A group of calls of the app object, such as ``durable.event``.

    Args:
        name: how people write it, for errors.
    """

    def __init__(self, host: Durable, name: str) -> None:
        self._host = host
        self._name = name

    async def _on_loop(self, make: Callable[[], Awaitable[R]]) -> R:
        """Run a coroutine on the engine's loop, and await it from any loop."""
        return await self._host.aio_call(make)  # type: ignore[no-any-return]


def sync_form(aio: Callable[Concatenate[G, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[G, P], R]:
    """Make the synchronous form of a group's aio method. On the engine's own thread it raises SyncCallError, which names that."""

    @functools.wraps(aio)
    def form(self: G, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._host.call(lambda: aio(self, *args, **kwargs), aio=f"await {self._name}.{aio.__name__}(…)")  # type: ignore[no-any-return]

    form.__name__ = aio.__name__.removeprefix("aio_")
    form.__doc__ = f"As `{aio.__name__}`, from synchronous code."
    return form
