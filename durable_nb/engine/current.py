"""What runs here: the run in whose context code executes. Set in the engine's own contexts only, never in a cell's."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.regular import RegularRun

CURRENT: contextvars.ContextVar[Execution | RegularRun | None] = contextvars.ContextVar("durable_nb_current", default=None)
# Why code that executes inside a run may ask the engine for nothing: it is a memo or a dependency, not the task; else ''.
INLINE: contextvars.ContextVar[str] = contextvars.ContextVar("durable_nb_inline", default="")
# The engine whose lifespan executes: it is not started yet, or closed already, for everybody else.
LIVING: contextvars.ContextVar[Engine | None] = contextvars.ContextVar("durable_nb_living", default=None)
