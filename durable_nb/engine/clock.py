"""The clock: UTC seconds, behind a small port so that tests can own time.

Invariant: nothing in the engine reads another clock for a deadline. Durations of work (`worked`) use it too, so that a
virtual day costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where the engine reads the time."""

    def now(self) -> float:
        """Give UTC seconds since 1970."""
        ...

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when the time was moved by hand."""
        ...


class SystemClock:
    """The machine's clock. The engine reads it again at least every second, so that a suspended laptop is noticed."""

    def now(self) -> float:
        """Give UTC seconds since 1970."""
        return time.time()

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Do nothing: this clock is never moved from inside the process."""
