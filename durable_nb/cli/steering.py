"""`cancel`, `replay`, `retake`, `reset` and `fork`: what is done to runs. A worker carries it out."""

from __future__ import annotations

from typing import Annotated

import typer

from durable_nb.cli.options import Log, RunName, RunNames, value_of
from durable_nb.cli.place import Place
from durable_nb.views.words import brief

Node = Annotated[int, typer.Option("--node", min=1, metavar="N", help="The checkpoint, as `show` numbers it.")]


def cancel(
    place: Place,
    runs: RunNames,
    reason: Annotated[str, typer.Option(help="Stands in the log, and in the error of whoever waits.")] = "",
    log: Log = None,
) -> None:
    """Cancel runs, and the unfinished runs below them. What runs may clean up for its task's cancel_grace."""
    with place.steering(log) as durable:
        for name in runs:
            run = durable.runs.get(name)
            is_done = durable.runs.cancel(run.id, reason=reason)
            print(f"{'cancelled' if is_done else 'had ended'} {run.id} {brief(run.task)}")


def replay(place: Place, runs: RunNames, log: Log = None) -> None:
    """Run ended runs again: what was completed is kept, what failed is done again. A worker carries it out."""
    with place.steering(log) as durable:
        for name in runs:
            run = durable.runs.get(name)
            durable.runs.replay(run.id)
            print(f"queued {run.id} {brief(run.task)}")


def retake(place: Place, runs: RunNames, log: Log = None) -> None:
    """Take up parked runs again."""
    with place.steering(log) as durable:
        for name in runs:
            run = durable.runs.get(name)
            print(f"{'taken up' if durable.runs.retake(run.id) else 'was not parked'} {run.id} {brief(run.task)}")


def reset(
    place: Place,
    run: RunName,
    node: Node,
    branch: Annotated[int | None, typer.Option(min=1, help="Whose checkpoint it is; else the run's present branch.")] = None,
    log: Log = None,
) -> None:
    """Have a durable run ask a checkpoint, and everything after it, afresh, on a new branch."""
    with place.steering(log) as durable:
        view = durable.runs.get(run)
        durable.runs.reset_durable_task(view.id, node, branch)
        print(f"reset {view.id} {brief(view.task)}")


def fork(
    place: Place,
    run: RunName,
    node: Node,
    value: Annotated[str | None, typer.Option(metavar="JSON", help="Takes the place of that checkpoint's outcome.")] = None,
    log: Log = None,
) -> None:
    """Start a new run that shares what a durable run has asked before a checkpoint; print its id."""
    with place.steering(log) as durable:
        view = durable.runs.get(run)
        print(durable.runs.fork(view.id, node, value_of(value)).workflow_run_id)


VERBS = (cancel, replay, retake, reset, fork)
