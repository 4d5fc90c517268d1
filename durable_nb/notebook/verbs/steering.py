"""Verbs that change the course of runs: cancel, replay, reset, fork, retake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_nb.notebook.arguments import INPUT, Arguments, place, plain, value_of
from durable_nb.notebook.handle import Handle
from durable_nb.notebook.verbs.verb import Verb, one_node, one_run, some_runs
from durable_nb.views.words import brief, counted, visible

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.notebook.extension import Extension


def _cancel_options(parser: Arguments) -> None:
    some_runs(parser)
    parser.add_argument("--reason", metavar="WORDS", type=plain, help="why; recorded with the cancel")


def _cancel(extension: Extension, given: Namespace) -> None:
    durable = extension.ready().durable
    views = [durable.runs.get(name) for name in given.runs]  # all are named rightly, or none is cancelled
    done = set(durable.runs.bulk_cancel([view.id for view in views], reason=given.reason or ""))
    for view in views:
        name, task = brief(view.id), brief(view.task)
        ended = f"had ended already ({view.status.lower()}), so nothing was changed"
        print(f"Run {name} of {task} {'is cancelled' if view.id in done else ended}.")


def _replay(extension: Extension, given: Namespace) -> Handle:
    durable = extension.ready().durable
    handle = Handle(durable, durable.runs.replay(given.run))
    print(f"Run {visible(handle.id)} is run once more; what its log holds is not done again.")
    return handle


def _reset_options(parser: Arguments) -> None:
    one_node(parser)
    parser.add_argument("--branch", type=place, metavar="N", help="the branch whose node it is (the run's present one)")


def _reset(extension: Extension, given: Namespace) -> Handle:
    durable = extension.ready().durable
    handle = Handle(durable, durable.runs.reset_durable_task(given.run, given.node, given.branch))
    print(f"Run {visible(handle.id)} asks checkpoint {given.node} and all after it afresh, on a new branch.")
    return handle


def _fork_options(parser: Arguments) -> None:
    one_node(parser)
    parser.add_argument("--set", metavar=INPUT, help="what takes the place of that checkpoint's outcome")


def _fork(extension: Extension, given: Namespace) -> Handle:
    durable = extension.ready().durable
    override = None if given.set is None else value_of(given.set, extension.shell.user_ns)
    handle = Handle(durable, durable.runs.fork(given.run, given.node, override))
    shared = counted(given.node - 1 if given.set is None else given.node, "checkpoint")
    print(f"Run {visible(handle.id)} is a fork of {brief(given.run)}: it shares {shared}; the original is as it was.")
    return handle


def _retake(extension: Extension, given: Namespace) -> None:
    durable = extension.ready().durable
    view = durable.runs.get(given.run)
    name = brief(view.id)
    is_taken = durable.runs.retake(view.id)
    print(f"Run {name} is taken up again." if is_taken else f"Run {name} was not parked, so nothing was changed.")


VERBS = (
    Verb(
        name="cancel",
        description="Cancel runs and the unfinished runs below them. A running one may clean up first.",
        do=_cancel,
        options=_cancel_options,
    ),
    Verb(
        name="replay",
        description="Run once more what has ended or is parked, as the same run; what its log holds is not done again.",
        do=_replay,
        options=one_run,
    ),
    Verb(
        name="reset",
        description="Have a run ask a checkpoint, and everything after it, afresh, as the same run.",
        do=_reset,
        options=_reset_options,
    ),
    Verb(
        name="fork",
        description="Start a new run that shares what a run did before a checkpoint, with --set another outcome of it.",
        do=_fork,
        options=_fork_options,
    ),
    Verb(name="retake", description="Take up a parked run again.", do=_retake, options=one_run),
)
