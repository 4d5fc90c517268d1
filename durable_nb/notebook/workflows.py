"""Workflows of cells: kept with the log like tasks, and made again from it without their cells.

Each task of a workflow has a definition of its own, and the workflow one that holds its shape and the versions of its tasks.

Invariants: a workflow comes back whole or not at all; a run keeps the shape with which it was started, so the former shapes that
unfinished runs have are kept and restored beside the newest.

Lives on the kernel's main thread.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from durable_nb.client.workflows import check
from durable_nb.definitions import Definition
from durable_nb.engine.flow import check_declared
from durable_nb.engine.workflow import conduct
from durable_nb.errors import DurableError, LogError
from durable_nb.log import definitions as stored
from durable_nb.log.definitions import StoredDefinition
from durable_nb.notebook import rows
from durable_nb.notebook.rows import Said
from durable_nb.tasks.options import TaskOptions
from durable_nb.tasks.task import Task
from durable_nb.tasks.workflow import Workflow, WorkflowTask

if TYPE_CHECKING:
    from durable_nb.notebook.app import NotebookDurable
    from durable_nb.notebook.session import Session

NO_CODE = "workflow"  # the name in the definition of a workflow, which has no function of its own


def shape_of(workflow: Workflow) -> Definition:
    """Give the definition of a workflow itself: no code, only its version."""
    return Definition(name=NO_CODE, source="", first_line=1, bindings=(), lost=(), version=workflow.version or "")


class Workflows:
    """The workflows of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: dict[str, tuple[Workflow, str]] = {}  # each with its shape and the versions of its tasks, as written

    # ------------------------------------------------------------ keeping

    def keep_declared(self, declared: list[Task[Any]], namespace: dict[str, Any]) -> list[str]:
        """Keep the workflows to which some tasks belong, if they were declared in the notebook; give notes for the person."""
        found = [task.part.workflow if isinstance(task, WorkflowTask) else task for task in declared]
        lines = list[str]()
        for workflow in dict.fromkeys(found):
            if isinstance(workflow, Workflow) and self._is_ours(workflow, namespace):
                lines += self.keep(workflow)
        return lines

    def _is_ours(self, workflow: Workflow, namespace: dict[str, Any]) -> bool:
        functions: list[Any] = [task.function for task in workflow.tasks.values() if not self._session.has_kept(task)]
        is_current = self._session.durable.tasks.get(workflow.name) is workflow
        return is_current and bool(workflow.tasks) and all(function.__globals__ is namespace for function in functions)

    def keep(self, workflow: Workflow) -> list[str]:
        """Keep a workflow and its tasks with the log, and serve them; give notes for the person."""
        session, lines = self._session, list[str]()
        for task in workflow.tasks.values():
            if not session.has_kept(task):
                try:
                    lines += session.keep_declared(task, task.function)  # type: ignore[arg-type]
                except DurableError as error:
                    lines.append(str(error))
        said = rows.write(workflow, session.durable.home)
        if self._kept.get(workflow.name) != (workflow, said):
            session.put(workflow, shape_of(workflow))
            self._kept[workflow.name] = workflow, said
            session.forget_untrusted(workflow.name)
        return lines

    def put_again(self) -> None:
        """Write the session's own workflows to the log that is open now, and serve them there."""
        for workflow, _ in self._kept.values():
            if not workflow.is_restored:
                self._session.put(workflow, shape_of(workflow))
                self._session.durable.add(workflow)

    def forget_restored(self) -> None:
        """Forget what another log gave back."""
        self._kept = {name: kept for name, kept in self._kept.items() if not kept[0].is_restored}

    def version_of(self, name: str) -> str | None:
        """Give the shape of a workflow as it is now."""
        kept = self._kept.get(name)
        return kept[0].version if kept else None

    # ------------------------------------------------------------ restoring

    def restore(self, row: StoredDefinition, said: Said) -> list[Task[Any]]:
        """Make a workflow again, as the newest of its name; give it after its tasks.

        Raises:
            LogError: one of its tasks cannot be made again.
        """
        workflow, tasks = self._make(row, said)
        for task, definition in tasks:
            self._session.take_restored(task, definition)
        self._kept[workflow.name] = workflow, row.options
        return [*(task for task, _ in tasks), workflow]

    def restore_older(self, row: StoredDefinition, said: Said) -> None:
        """Make a former shape again, which unfinished runs have."""
        workflow, tasks = self._make(row, said)
        for task, definition in tasks:
            self._session.take_older(task, definition)
        self._session.durable.tasks.keep(workflow)

    def _make(self, row: StoredDefinition, said: Said) -> tuple[Workflow, list[tuple[WorkflowTask[Any], Definition]]]:
        graph, durable = said.graph or {}, self._session.durable
        workflow = Workflow(conduct, host=durable, name=row.task, options=said.options, description=said.description)
        made = []
        for name in graph["order"]:
            shape = graph["tasks"][name]
            task, definition = self._make_task(workflow, name, shape)
            made.append((task, definition))
            workflow.tasks = {**workflow.tasks, name: task}
        if graph["has_validator"]:
            workflow.has_validator, workflow.input_adapter = True, made[0][0].input_adapter
        workflow.version, workflow.is_restored = row.version, True
        return workflow, made

    def _make_task(self, workflow: Workflow, name: str, shape: rows.Shape) -> tuple[WorkflowTask[Any], Definition]:
        session, full_name = self._session, f"{workflow.name}:{name}"
        home = session.durable.home
        row = session.read(lambda connection: stored.find(connection, full_name, shape["version"], home))
        if row is None:
            raise LogError(f"The code of its task '{name}' is not in the log: run its cell again.")
        part = rows.part_of(workflow, name, shape)

        def make(function: FunctionType, said: Said, version: str) -> WorkflowTask[Any]:
            return WorkflowTask(
                function,
                part,
                host=session.durable,
                kind=said.kind,
                options=said.options,
                description=said.description,
                version=version,
            )

        made: tuple[WorkflowTask[Any], Definition] = session.maker.make(row, make)
        return made


# ---------------------------------------------------------------- a workflow that is being declared


class Stage:
    """The host of a workflow while its cell is executed: its tasks are checked, and served when all of the cell has run."""

    def __init__(self, durable: NotebookDurable) -> None:
        self._durable = durable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._durable, name)

    def add(self, task: Task[Any]) -> Task[Any]:
        """Take in a task.

        Raises:
            DeclarationError, ExpressionError: it cannot work.
        """
        check(task)
        check_declared(task)
        return task

    def declare(self, name: str, options: TaskOptions, description: str | None) -> Workflow:
        """Declare a workflow without tasks."""
        workflow = Workflow(conduct, host=self, name=name, options=options, description=description)
        check_declared(workflow)
        return workflow

    def serve(self, workflow: Workflow, session: Session) -> list[str]:
        """Serve the workflow with its tasks, and keep them with the log; give notes for the person."""
        for task in (workflow, *workflow.tasks.values()):
            task.host = self._durable
        for task in workflow.tasks.values():
            self._durable.add(task)
        lines = session.workflows.keep(workflow)
        self._durable.add(workflow)
        return lines
