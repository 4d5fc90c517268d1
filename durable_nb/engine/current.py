"""What runs here: the run in whose context code executes. Set in the engine's own contexts only, never in a cell's."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.regular import RegularRun

CURRENT: contextvars.ContextVar[Execution | RegularRun | None] = contextvars.ContextVar("durable_nb_current", default=None)
INLINE: contextvars.ContextVar[bool] = contextvars.ContextVar("durable_nb_inline", default=False)
