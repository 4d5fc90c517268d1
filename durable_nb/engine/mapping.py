"""Mapping: one child for each of many items, not more than so many at once.

Invariants: children are asked for in the order of the items, the next when an outcome was delivered, so a replay asks the same;
each outcome costs the same however many items there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from durable_nb.engine.children import Asked, Child, give_up, new_child, result_of, spawn
from durable_nb.engine.giving_up import has_lost
from durable_nb.errors import ArgumentError, RunCancelledError
from durable_nb.tasks.task import BulkItem, group_of

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution
    from durable_nb.tasks.task import Task


async def map_children(
    execution: Execution,
    task: Task[Any],
    items: Sequence[Any],
    *,
    max_concurrency: int | None,
    min_successful: int | None,
    return_exceptions: bool,
) -> list[Any]:
    """Run the task once for each item (see `DurableContext.aio_map`)."""
    if max_concurrency is not None and (type(max_concurrency) is not int or max_concurrency < 1):
        raise ArgumentError(f"max_concurrency={max_concurrency!r}: give a whole number of 1 or more, or None for no limit.")
    if min_successful is not None and (type(min_successful) is not int or not 0 <= min_successful <= len(items)):
        raise ArgumentError(
            f"min_successful={min_successful!r}: give a whole number from 0 to the number of items, {len(items)}."
        )
    bulk = [item if isinstance(item, BulkItem) else BulkItem(input=item) for item in items]
    children = [new_child(execution, task, item, index=index) for index, item in enumerate(bulk)]
    fan = _Fan(execution, task, children, needed=len(children) if min_successful is None else min_successful)
    await fan.run(len(children) if max_concurrency is None else max_concurrency)
    return fan.results(return_exceptions=return_exceptions, is_partial=min_successful is not None)


class _Fan:
    """The children of one map: those that run, and what came of those that ended."""

    def __init__(self, execution: Execution, task: Task[Any], children: Sequence[Child], *, needed: int) -> None:
        self._execution = execution
        self._task = task
        self._children = children
        self._needed = needed
        self._running: dict[int, Asked] = {}  # by the item's index
        self._ended: dict[int, Any] = {}
        self._delivered: asyncio.Queue[int] = asyncio.Queue()
        self._successes = 0
        self._begun = 0

    async def run(self, slots: int) -> None:
        """Run children until enough have succeeded, or too many failed for that and those that were begun have ended."""
        try:
            while self._successes < self._needed:
                self._begin(slots - len(self._running))
                if not self._running:
                    return
                index = await self._delivered.get()
                asked = self._running.pop(index)
                result = result_of(self._execution, self._task, asked.node, asked.pending.result())
                self._successes += not isinstance(result, BaseException)
                self._ended[index] = result
        except asyncio.CancelledError as error:
            give_up(self._execution, self._running.values(), is_lost=has_lost(error))
            raise
        give_up(self._execution, self._running.values(), is_lost=True)

    def _begin(self, free: int) -> None:
        """Begin as many as there are slots for; none once too many have failed."""
        can_succeed = len(self._children) - (len(self._ended) - self._successes) >= self._needed
        first, self._begun = self._begun, min(self._begun + free, len(self._children)) if can_succeed else self._begun
        chosen = range(first, self._begun)
        if chosen:
            asked = spawn(self._execution, self._task, [self._children[index] for index in chosen])
            self._running.update(zip(chosen, asked, strict=True))
            for index, one in zip(chosen, asked, strict=True):
                one.pending.add_done_callback(lambda _, index=index: self._delivered.put_nowait(index))  # type: ignore[misc]

    def results(self, *, return_exceptions: bool, is_partial: bool) -> list[Any]:
        """Give what came of the items, in their order."""
        if return_exceptions:
            unneeded = RunCancelledError(f"This run of '{self._task.name}' was not needed: enough others had succeeded.")
            return [self._ended.get(index, unneeded) for index in range(len(self._children))]
        ended = [self._ended[index] for index in sorted(self._ended)]
        outputs = [result for result in ended if not isinstance(result, BaseException)]
        failures = [result for result in ended if isinstance(result, BaseException)]
        if len(outputs) >= self._needed:
            return outputs
        if len(failures) == 1:
            raise failures[0]
        less = f", where {self._needed} of {len(self._children)} had to succeed" if is_partial else ""
        raise group_of(failures, f"{len(failures)} of {len(ended)} runs of {self._task.name} did not complete{less}")
