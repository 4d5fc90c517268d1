"""What an asyncio task waits for: an ask of ours, or something foreign (I/O, a timer, a thread) that only memory can wake.

Only a run that is wholly in asks may be evicted, and only the time outside them counts as work. asyncio tells what a task waits
for in no public way, so this module reads `Task._fut_waiter` and the innermost suspended frame, and errs towards "foreign": then
a run keeps its slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import CodeType
from typing import Any

from durable_nb.log.records import Outcome

COORDINATION = ("asyncio/tasks.py", "asyncio/taskgroups.py", "asyncio/locks.py", "asyncio/queues.py", "asyncio/staggered.py")
TIMED = ("sleep", "wait_for")  # these wait for asyncio's own timer


class Pending(asyncio.Future[Outcome]):
    """An ask whose outcome was not delivered yet."""

    def fail(self, error: BaseException) -> None:
        """Raise an error where it is awaited; an await that its code gave up wants no warning."""
        if not self.done():
            self.set_exception(error)
            self.exception()


def throw(task: asyncio.Task[Any], error: BaseException, *, for_many: bool = False) -> bool:
    """Raise an error where a task waits in a primitive of asyncio; give whether it waits in one.

    Args:
        for_many: only where it waits in a gather or wait, which would give it the errors of others as values.
    """
    waiter, code = getattr(task, "_fut_waiter", None), _innermost_code(task)
    if not isinstance(waiter, asyncio.Future) or isinstance(waiter, asyncio.Task | Pending) or waiter.done() or code is None:
        return False
    is_many = type(waiter).__name__ == "_GatheringFuture" or (code.co_name == "_wait" and _is_coordination(code))
    if for_many != is_many or not (is_many or _is_coordination(code)) or code.co_name == "__aexit__":  # a group's children end it
        return False
    waiter.set_exception(error)
    return True


def waits_durably(task: asyncio.Task[Any], tasks: Collection[asyncio.Task[Any]]) -> bool:
    """Whether a task waits for an ask, for a task of its run, or in a primitive of asyncio that one of those will wake."""
    waiter = getattr(task, "_fut_waiter", None)
    if _is_ours(waiter, tasks):
        return True
    innermost = _innermost_code(task)
    if innermost is not None and _is_coordination(innermost):
        return True
    return any(_is_ours(inner, tasks) for inner in _shielded(waiter))


def _is_coordination(code: CodeType) -> bool:
    return code.co_name not in TIMED and code.co_filename.replace("\\", "/").endswith(COORDINATION)


def _is_ours(future: object, tasks: Collection[asyncio.Task[Any]]) -> bool:
    is_gather = type(future).__name__ == "_GatheringFuture"
    return isinstance(future, Pending) or is_gather or (isinstance(future, asyncio.Task) and future in tasks)


def _innermost_code(task: asyncio.Task[Any]) -> CodeType | None:
    """Give the code of the coroutine in which a task is suspended."""
    code: CodeType | None = None
    awaitable: Any = task.get_coro()
    while awaitable is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaitable, f"{kind}_code")), None)
        if kind is None:
            break
        code = getattr(awaitable, f"{kind}_code")
        awaitable = getattr(awaitable, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return code


def _shielded(outer: object) -> list[object]:
    """Give what `asyncio.shield` keeps from being cancelled where `outer` is what it gave: only its callback there tells."""
    callbacks = [callback for callback, _ in getattr(outer, "_callbacks", None) or ()]
    shields = [callback for callback in callbacks if getattr(callback, "__qualname__", "").startswith("shield.<locals>")]
    return [cell.cell_contents for callback in shields for cell in callback.__closure__ or ()]
