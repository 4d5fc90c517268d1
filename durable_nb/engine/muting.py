"""Muting: what a durable task prints while its recorded work is replayed was printed before.

Only `print` calls of a task's own code are muted, and only while an engine is open that asked for it; everything else passes
unchanged. May be called from any thread.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable
from typing import Any

from durable_nb.engine.current import CURRENT


class Muting:
    """A wrapper in the place of `print`, from the first engine of a process to the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines = 0
        self._print: Callable[..., None] | None = None  # what stood there before; None where the wrapper is not in place

    def begin(self) -> None:
        """Be told that an engine is open."""
        with self._lock:
            self._engines += 1
            if self._print is None:
                self._print, builtins.print = builtins.print, self._print_unless_replaying

    def end(self) -> None:
        """Be told that an engine was closed."""
        with self._lock:
            self._engines -= 1
            if not self._engines and builtins.print == self._print_unless_replaying:  # else somebody has wrapped it: it stays
                builtins.print, self._print = self._print, None  # type: ignore[assignment]

    def _print_unless_replaying(self, *values: Any, **options: Any) -> None:
        cursor = getattr(CURRENT.get(), "cursor", None)  # a regular task has none
        if self._print is not None and (cursor is None or not cursor.is_replaying):
            self._print(*values, **options)


MUTING = Muting()
