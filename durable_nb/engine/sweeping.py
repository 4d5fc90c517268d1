"""Removing old runs and events from a log that is in use: page by page, in transactions of a bounded size.

Invariant: what a dry run counts is what a real one removes, as long as nothing changes between them. Lives on the engine's loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_nb.log import trees
from durable_nb.log.trees import Old

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What `durable.upkeep.gc` has removed, or, in a dry run, would remove now.

    Attributes:
        trees: runs without a parent, each with all runs below it. runs: all of them.
        bodies: large payloads and artifacts that nothing referred to any more; None in a dry run, since it follows from the rest.
    """

    trees: int
    runs: int
    events: int
    bodies: int | None
    is_dry_run: bool


async def remove(engine: Engine, old: Old) -> Removed:
    """Remove what is old."""
    at, count, runs, events, bodies = engine.clock.now(), 0, 0, 0, 0
    is_changed = True
    while is_changed:  # a tree may go when those that refer to it have gone
        is_changed = False
        async for page in _free_trees(engine, old, at, set()):
            roots = [tree[-1] for tree in page]
            count, is_changed = count + len(roots), True
            while roots:
                removed, done = await _remove_some(engine, roots, old, at)
                runs, roots = runs + removed, roots[done:]
    while removed := await engine.writer.submit(lambda connection: trees.remove_events(connection, old.before)):
        events += removed
    while removed := await engine.writer.submit(trees.remove_unreferred):
        bodies += removed
    return Removed(trees=count, runs=runs, events=events, bodies=bodies, is_dry_run=False)


async def look(engine: Engine, old: Old) -> Removed:
    """Say what `remove` would remove."""
    gone: set[int] = set()
    count, is_changed = 0, True
    while is_changed:
        is_changed = False
        async for page in _free_trees(engine, old, engine.clock.now(), gone):
            for tree in page:
                gone.update(tree)
            count, is_changed = count + len(page), True
    events = await engine.reader.run(lambda connection: trees.count_old_events(connection, old.before, gone))
    return Removed(trees=count, runs=len(gone), events=events, bodies=None, is_dry_run=True)


async def _free_trees(engine: Engine, old: Old, at: float, gone: set[int]) -> AsyncIterator[list[list[int]]]:
    """Give the trees that may go now, some of them at a time."""
    after = 0
    while True:
        page, after = await engine.reader.run(lambda connection: trees.next_free(connection, old, at, after=after, gone=gone))  # noqa: B023
        if page:
            yield page
        if not after:
            return


async def _remove_some(engine: Engine, roots: list[int], old: Old, at: float) -> tuple[int, int]:
    return await engine.writer.submit(lambda connection: trees.remove_some(connection, roots, old, at))
