"""What runs here: the run in whose context code executes. Set in the engine's own contexts only, never in a cell's."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

from durable_nb.errors import DurableError

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.regular import RegularRun

CURRENT: contextvars.ContextVar[Execution | RegularRun | None] = contextvars.ContextVar("durable_nb_current", default=None)
INLINE: contextvars.ContextVar[bool] = contextvars.ContextVar("durable_nb_inline", default=False)


def refuse_misplaced(loop: asyncio.AbstractEventLoop | None) -> None:
    """Refuse an ask that is made where none can be answered.

    Args:
        loop: the engine's; None for a run that was left, which is answered anyhow.

    Raises:
        DurableError: the caller is on another event loop, or inside a memo or step.
    """
    if loop is not None and asyncio._get_running_loop() is not loop:
        raise DurableError("The engine was asked from another event loop: await it in the task itself, not in a thread's loop.")
    if INLINE.get():
        raise DurableError(
            "A memo or step asked the engine for something: it is one checkpoint and makes no others. Ask from the task."
        )
