"""The working time of an attempt: the seconds in which some part of a durable run was not in a durable wait.

Invariant: it is counted by the engine's clock and only where there is a limit, so that a run without one costs no alarm.
Lives on the engine's loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.timers import Alarm


class WorkTime:
    """What an attempt has worked of its `execution_timeout`.

    Args:
        limit: seconds, or None for no limit.
        before: seconds worked in earlier invocations of the attempt.
        time_out: called when the limit is reached.
    """

    def __init__(self, engine: Engine, limit: float | None, before: float, time_out: Callable[[], None]) -> None:
        self._engine = engine
        self._limit = limit
        self._before = before
        self._time_out = time_out
        self._since: float | None = None
        self._alarm: Alarm | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit, so that the time is counted at all."""
        return self._limit is not None

    @property
    def total(self) -> float:
        """Seconds worked so far."""
        return self._before + (self._engine.clock.now() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        """Count from now on."""
        if self._limit is not None and self._since is None:
            self._since = self._engine.clock.now()
            self._alarm = self._engine.timers.alarm(self._limit - self._before, self._time_out)

    def extend(self, seconds: float) -> None:
        """Allow so many seconds more, in this invocation; the code asks again when it is replayed."""
        if self._limit is not None:
            is_counting = self._since is not None
            self.stop()
            self._limit += seconds
            if is_counting:
                self.start()

    def stop(self) -> None:
        """Count no more."""
        self._before, self._since = self.total, None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
