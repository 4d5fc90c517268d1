"""What runs here: the run in whose context code executes. Set in the engine's own contexts only, never in a cell's."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

from durable_nb.errors import DurableError

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.regular import RegularRun

CURRENT: contextvars.ContextVar[Execution | RegularRun | None] = contextvars.ContextVar("durable_nb_current", default=None)
# Why code that executes inside a run may ask the engine for nothing: it is a memo or a dependency, not the task; else ''.
INLINE: contextvars.ContextVar[str] = contextvars.ContextVar("durable_nb_inline", default="")
# The engine whose lifespan executes: it is not started yet, or closed already, for everybody else.
LIVING: contextvars.ContextVar[Engine | None] = contextvars.ContextVar("durable_nb_living", default=None)


def refuse_misplaced(loop: asyncio.AbstractEventLoop | None) -> None:
    """Refuse an ask that is made where none can be answered.

    Args:
        loop: the engine's; None for a run that was left, which is answered anyhow.

    Raises:
        DurableError: the caller is on another event loop, or inside a memo, step or dependency.
    """
    if loop is not None and asyncio._get_running_loop() is not loop:
        raise DurableError("The engine was asked from another event loop: await it in the task itself, not in a thread's loop.")
    if why := INLINE.get():
        raise DurableError(f"{why} Ask from the task.")
