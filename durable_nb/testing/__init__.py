"""What users test their own tasks with: time that is moved by hand.

Example:
    >>> from durable_nb.testing import VirtualClock
    >>> durable = Durable("test.db", clock=VirtualClock())  # doctest: +SKIP
"""

from durable_nb.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
