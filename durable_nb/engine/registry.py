"""The tasks that an engine serves, by name and by lane."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from durable_nb.errors import UnknownTaskError
from durable_nb.log.serving import Served

if TYPE_CHECKING:
    from durable_nb.tasks.task import Lane, Task


class Registry:
    """Tasks by name; declaring a name again replaces its task. Any thread may call it: each change puts a new dict in place."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[Any]] = {}
        self._older: dict[tuple[str, str | None], Task[Any]] = {}  # by name and version
        self._served: dict[tuple[str, Lane | None], tuple[object, object, Served]] = {}  # each with what it was made of

    def add(self, task: Task[Any]) -> None:
        """Serve a task from now on; the one before it still serves the runs of its version."""
        before = self._tasks.get(task.name)
        if before is not None and before.version is not None and before.version != task.version:
            self.keep(before)
        self._tasks = {**self._tasks, task.name: task}

    def keep(self, task: Task[Any]) -> None:
        """Serve the runs of a task's version only."""
        self._older = {**self._older, (task.name, task.version): task}

    def pick(self, name: str, version: str | None) -> Task[Any]:
        """Give the task for a run of a version; the newest, where that version is not here."""
        newest = self[name]
        return newest if newest.version == version else self._older.get((name, version), newest)

    def has(self, name: str, version: str) -> bool:
        """Whether the task is here in this very version."""
        newest = self._tasks.get(name)
        return (newest is not None and newest.version == version) or (name, version) in self._older

    def __iter__(self) -> Iterator[Task[Any]]:
        return iter(self._tasks.values())

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def get(self, name: str) -> Task[Any] | None:
        """Give a task, or None."""
        return self._tasks.get(name)

    def __getitem__(self, name: str) -> Task[Any]:
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTaskError(unknown(name, self._tasks)) from None

    @property
    def lanes(self) -> set[Lane]:
        """The lanes of the tasks that are here."""
        return {task.lane for task in self._tasks.values()}

    def served(self, home: str, lane: Lane | None = None) -> Served:
        """Give what a worker of a home may execute of these tasks, or of those of a lane."""
        newest, older = self._tasks, self._older
        known = self._served.get((home, lane))
        if known is None or known[0] is not newest or known[1] is not older:
            tasks = [task for task in newest.values() if lane in (None, task.lane)]
            defined = {task.name: task.version for task in tasks if not task.is_restored}
            former = [(name, version) for name, version in older if name in defined]
            served = Served.of(home, [task.name for task in tasks], [*defined.items(), *former])
            known = self._served[home, lane] = newest, older, served
        return known[2]

    def all_served(self) -> tuple[list[str], list[str]]:
        """Give the names of all tasks: those defined here, and those merely restored from the log."""
        tasks = list(self._tasks.values())
        return [task.name for task in tasks if not task.is_restored], [task.name for task in tasks if task.is_restored]


def unknown(name: str, names: dict[str, Any]) -> str:
    """Give the sentence for an unknown task, with the nearest name."""
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"No task '{name}' is defined here; did you mean '{near[0]}'?"
    return f"No task '{name}' is defined here: run the cell that defines it." + (
        f" Defined are: {', '.join(sorted(names))}." if names else ""
    )
