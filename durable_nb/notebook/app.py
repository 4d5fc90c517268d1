"""The app object that a notebook finds under the name `durable`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from durable_nb.client import Durable
from durable_nb.notebook.watchdog import Watchdog
from durable_nb.tasks.task import Task


class NotebookDurable(Durable):
    """The app object of a notebook.

    It remembers the tasks that are declared by decorators, so that their code is kept too, and has its engine watched.
    """

    mutes_prints = False  # `TaskOutput` does, with all that tasks say

    def __init__(self, log: Path, home: str) -> None:
        super().__init__(log, home=home)
        self.declared: list[Task[Any]] = []
        self._watchdog: Watchdog | None = None

    def add(self, task: Task[Any]) -> Task[Any]:
        """Serve a task from now on; one of the same name is replaced."""
        self.declared.append(task)
        return super().add(task)

    def _start(self) -> None:
        super()._start()
        assert self._engine is not None  # noqa: S101  it was started
        self._watchdog = Watchdog(self._engine, self._engine.warn)

    def close(self, timeout: float | None = None) -> None:
        """Give every run back to the log and stop the engine; a later use starts it again."""
        if self._watchdog is not None:
            self._watchdog.stop()
        super().close(timeout)
