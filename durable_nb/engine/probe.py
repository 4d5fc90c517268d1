"""Where a test looks into the engine and disturbs it (`durable_nb.testing`). In production every method does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.execution import Execution
    from durable_nb.engine.leaving import Left


class Probe:
    """What the engine calls at the moments that a test may care for."""

    def commit(self, connection: sqlite3.Connection, transact: Callable[[], None]) -> None:
        """Carry out one transaction, on the writer's thread; what this raises stops the engine as a failed commit does."""
        transact()

    def rests(self, execution: Execution) -> None:
        """Be told, on the loop, that everything there is was delivered to a durable run."""

    def judge(self, execution: Execution, left: Left) -> Left:
        """Say how an invocation ended, before that is written."""
        return left
