"""How an invocation is left: what came of it, and what becomes of the code that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from durable_nb.errors import NonDeterminismError
from durable_nb.log.records import Outcome

LEAVE_SECONDS = 1.0  # that a function has to unwind


@dataclass(frozen=True, slots=True)
class Left:
    """How an invocation ended: an output, an error, a reason to park, cancelled, to be replayed, or (none of them) evicted."""

    outcome: Outcome | None = None
    error: BaseException | None = None
    parked: NonDeterminismError | None = None
    is_cancelled: bool = False
    is_replayed: bool = False


async def sweep(tasks: Collection[asyncio.Task[Any]], warn: Callable[[str], None], of: str) -> None:
    """Cancel what a function left running; name what does not stop.

    Args:
        of: the run, for the warning.
    """
    for task in tasks:
        task.cancel()
    _, stubborn = await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
    for task in stubborn:
        warn(f"{of} left {task.get_name()} running; it can write nothing any more.")
