"""Making tasks again of what the log keeps of them.

Invariant: nothing of a definition is executed unless this user's signature on its row verifies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

from durable_nb.definitions import Classes, Definition, bind, rebuild, unbound
from durable_nb.errors import LogError
from durable_nb.log.definitions import StoredDefinition
from durable_nb.notebook import rows
from durable_nb.notebook.kept import references_of
from durable_nb.notebook.rows import Said
from durable_nb.tasks.task import Task
from durable_nb.tasks.workflow import Workflow

if TYPE_CHECKING:
    from durable_nb.notebook.app import NotebookDurable

APP = "app"
TASK = "task:"
Make = Callable[[FunctionType, Said, str], Any]


class UnsignedError(LogError):
    """A row does not carry this user's signature."""


class Maker:
    """Makes tasks.

    Args:
        held: tasks that are made, but not served yet.
    """

    def __init__(self, durable: NotebookDurable, held: Mapping[str, Task[Any]]) -> None:
        self.durable = durable
        self._held = held
        self._classes = Classes()

    def rebuild(self, definition: Definition) -> FunctionType:
        """Execute captured code in a namespace of its own; give the function."""
        filename = f"<durable {definition.name} {definition.version[:6]}>"
        return rebuild(definition, resolve=self._resolve, filename=filename, classes=self._classes)

    def _resolve(self, target: str) -> object:
        if target == APP:
            return self.durable
        name = target.removeprefix(TASK) if target.startswith(TASK) else ""
        if name in self._held:
            return self._held[name]
        if name in self.durable.tasks:
            return self.durable.tasks[name]
        raise LookupError(target)

    def said(self, row: StoredDefinition) -> tuple[Said, Definition]:
        """Read a row; nothing of it is executed.

        Raises:
            LogError: it is not signed by this user, or another version of durable_nb wrote it.
        """
        definition = Definition.from_json(row.body)
        if not rows.is_signed(self.durable, row, definition):
            raise UnsignedError(f"'{row.task}' is not signed by you: run its cell, or say `%durable trust`.")
        return rows.read(row.options), definition

    def make(self, row: StoredDefinition, make: Make | None = None) -> tuple[Any, Definition]:
        """Make a task again.

        Args:
            make: makes it of its function; a task that stands alone by default.

        Raises:
            LogError: the row is not signed by this user, or its code cannot be made again.
        """
        said, definition = self.said(row)
        if definition.lost:
            raise LogError(str(definition.lost[0]))
        function = self.rebuild(definition)
        task = make(function, said, definition.version) if make else self._alone(row.task, function, said, definition.version)
        task.is_restored = True
        take_in(task, definition)
        return task, definition

    def _alone(self, name: str, function: FunctionType, said: Said, version: str) -> Task[Any]:
        return Task(
            function,
            host=self.durable,
            kind=said.kind,
            name=name,
            options=said.options,
            version=version,
            description=said.description,
        )


def take_in(task: Task[Any], definition: Definition) -> None:
    """To a task's own code, its name means the task."""
    for reference in references_of(definition):
        if reference.target == "self":
            bind(task.function, reference.name, task)  # type: ignore[arg-type]


def needs(task: Task[Any]) -> list[str]:
    """Give what a task's code refers to and what is not there yet; nothing of a workflow, which has no code of its own."""
    return [] if isinstance(task, Workflow) else list(unbound(task.function).values())  # type: ignore[arg-type]
