"""The versions of a script's tasks: the hashes of their code, so that runs go between a notebook and its export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_nb.definitions import capture
from durable_nb.errors import DeclarationError
from durable_nb.notebook.session import APP, TASK
from durable_nb.tasks.workflow import Workflow, WorkflowTask

if TYPE_CHECKING:
    from durable_nb.client import Durable


def add_versions(durable: Durable) -> None:
    """Give each task the version of its code; tasks of workflows, and those whose source cannot be found, have none."""
    references = {id(durable): APP, **{id(task): f"{TASK}{task.name}" for task in durable.tasks}}
    for task in durable.tasks:
        if task.version is None and not isinstance(task, Workflow | WorkflowTask):
            try:
                task.version = capture(task.function, references=references).version
            except DeclarationError:
                continue
