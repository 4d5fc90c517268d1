"""A clock that stands still until a test moves it, so that a sleep of a day takes no time.

Invariant: every waker hears of a move after `now()` tells the new time, and outside the lock, so that a waker may read the clock.
Engines come and go on one clock as processes do on one machine: a waker whose loop is closed is forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


def seconds_of(duration: timedelta | float = 0.0, **units: float) -> float:
    """Give a duration in seconds.

    Raises:
        ValueError: it is negative, or no number.

    >>> seconds_of(30, minutes=1)
    90.0
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    seconds += timedelta(**units).total_seconds()
    if not seconds >= 0:  # NaN too
        raise ValueError(f"Time cannot be advanced by {duration!r}: give zero or more.")
    return seconds


class VirtualClock:
    """A `Clock` for tests. Every method may be called from any thread.

    Time-outs, backoff and sleeps of every engine that was given this clock follow it, and none of them the machine's.

    Args:
        start: what it shows first; midnight of 1 January 2026, UTC, where not said.

    Raises:
        ValueError: a start without a time zone.

    Example:
        >>> clock = VirtualClock()
        >>> clock.on_jump(lambda: print("moved"))
        >>> before = clock.now()
        >>> clock.advance(timedelta(hours=23))
        moved
        >>> clock.now() - before
        82800.0

        With an engine:

        >>> durable = Durable("test.db", clock=clock)  # doctest: +SKIP
        >>> ref = remind.run(wait_for_result=False)  # a task that sleeps for a day  # doctest: +SKIP
        >>> clock.advance(timedelta(days=1))  # doctest: +SKIP
        >>> ref.result()  # doctest: +SKIP
    """

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start={start!r} has no time zone: give one, such as datetime(2026, 1, 1, tzinfo=UTC).")
        self._now = start.timestamp()
        self._lock = threading.Lock()
        self._wakers: tuple[Callable[[], None], ...] = ()

    def __repr__(self) -> str:
        return f"<VirtualClock {datetime.fromtimestamp(self.now(), UTC).isoformat()}>"

    def now(self) -> float:
        """Give UTC seconds since 1970."""
        with self._lock:
            return self._now

    def advance(self, duration: timedelta | float = 0.0, **units: float) -> None:
        """Move time forward in one jump, and wake everybody who waits for it.

        Args:
            duration: a timedelta, or seconds.
            units: further time, as `timedelta` takes it: ``days=30``.

        Raises:
            ValueError: it is negative.
        """
        seconds = seconds_of(duration, **units)
        with self._lock:
            self._now += seconds
            wakers = self._wakers
        for wake in wakers:
            try:
                wake()
            except RuntimeError:  # its event loop is closed
                self._forget(wake)

    def on_jump(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, on the thread that moves time, after each move."""
        with self._lock:
            self._wakers = (*self._wakers, wake)

    def _forget(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakers = tuple(waker for waker in self._wakers if waker is not wake)
