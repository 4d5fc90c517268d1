"""`durable.workflow`: declaring workflows, and what their declaration means for an engine that runs already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_nb.errors import DeclarationError
from durable_nb.tasks.options import make_options
from durable_nb.tasks.payload import check_text
from durable_nb.tasks.workflow import Workflow, WorkflowTask

if TYPE_CHECKING:
    from durable_nb.client.app import Durable
    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import Task

FORM = "durable.workflow"


def declare(durable: Durable, name: str, input_validator: Any, description: str | None, options: dict[str, Any]) -> Workflow:
    """Declare a workflow without tasks."""
    from durable_nb.engine.workflow import conduct

    check_text(name, of="the workflow's name")
    if not name:
        raise DeclarationError(f'{FORM} needs a name: {FORM}(name="etl").')
    if "execution_timeout" in options:
        raise DeclarationError(
            f"{FORM} has no option 'execution_timeout', since a workflow's run does nothing but wait: give it to the tasks."
        )
    checked = make_options("durable_task", options, form=FORM)
    workflow = Workflow(
        conduct, host=durable, name=name, options=checked, input_validator=input_validator, description=description
    )
    durable.add(workflow)
    return workflow


def check(task: Task[Any]) -> None:
    """Refuse (ExpressionError) a workflow's task of which a condition does not compile."""
    if isinstance(task, WorkflowTask):
        from durable_nb.engine.workflow import check_conditions

        check_conditions(task)


def complete(engine: Engine, task: Task[Any]) -> None:
    """Have the runs taken up that were parked while their workflow was declared in part only. May be called from any thread."""
    if isinstance(task, WorkflowTask):
        from durable_nb.engine.workflow import take_up

        workflow = task.part.workflow
        engine.post(lambda: take_up(engine, workflow))
