"""Inline work: a memo or step runs in the coroutine that asks for it, and whatever it raises is its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from durable_nb.engine.current import INLINE
from durable_nb.log.records import Failure, Outcome

WHY = "A memo or step asked the engine for something: it is one checkpoint and makes no others."


async def outcome_of(work: Callable[[], Awaitable[str]], run_id: str) -> Outcome:
    """Do the work, which may ask the engine for nothing; give its JSON text or its failure.

    Raises:
        CancelledError: the asking task was cancelled. Evicted: the run is left.
    """
    token, before = INLINE.set(WHY), _cancels()
    try:
        return Outcome(await work())
    except asyncio.CancelledError as error:
        if _cancels() > before:
            raise
        return Outcome(failure=Failure.of(error, run_id))  # its own code raised it
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return Outcome(failure=Failure.of(error, run_id))
    finally:
        INLINE.reset(token)


def is_cancelled() -> bool:
    """Whether the asyncio task that asks was told to stop, so that a CancelledError is not its own code's."""
    return _cancels() > 0


def _cancels() -> int:
    current = asyncio.current_task()
    return current.cancelling() if current is not None else 0
