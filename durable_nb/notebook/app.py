"""The app object that a notebook finds under the name `durable`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from durable_nb.client import Durable
from durable_nb.notebook.detached import Detached, call_off, detach
from durable_nb.notebook.watchdog import Watchdog
from durable_nb.tasks.task import Task


class NotebookDurable(Durable):
    """The app object of a notebook.

    It remembers the tasks that are declared by decorators, so that their code is kept too, and has its engine watched.

    Attributes:
        is_detached: whether this is a worker, and no notebook; the engine of a notebook calls the notebook's worker off.
        took_back: the id of the process from which the runs were taken back last, until it is told.
    """

    mutes_prints = False  # `TaskOutput` does, with all that tasks say

    def __init__(self, log: Path, home: str) -> None:
        super().__init__(log, home=home)
        self.is_detached = False
        self.took_back: int | None = None
        self.declared: list[Task[Any]] = []
        self._watchdog: Watchdog | None = None

    def add(self, task: Task[Any]) -> Task[Any]:
        """Serve a task from now on; one of the same name is replaced."""
        self.declared.append(task)
        return super().add(task)

    def _start(self) -> None:
        if not self.is_detached:
            self.took_back = call_off(self.path, self.home) or self.took_back
        super()._start()
        assert self._engine is not None  # noqa: S101  it was started
        self._watchdog = Watchdog(self._engine, self._engine.warn)

    def detach(self) -> Detached:
        """Give the runs to a worker process that goes on when this one ends. The next use of this object takes them back.

        Returns:
            The worker: `.pid`, `.serves` (names of tasks), `.lacks` (tasks whose runs wait for their cell), `.output` (its file).

        Raises:
            DurableError: it did not start; the runs wait in the log.

        Example:
            >>> durable.detach().serves  # doctest: +SKIP
            ['clean', 'score']
        """
        return detach(self)

    def close(self, timeout: float | None = None) -> None:
        """Give every run back to the log and stop the engine; a later use starts it again."""
        if self._watchdog is not None:
            self._watchdog.stop()
        super().close(timeout)
