"""What the replay tab of a run's view asks for: histories, positions, outcomes, forks and comparisons, as JSON for pages.

Invariant: nothing here waits for a walk; a position that is not there yet is asked for again by the page. Called on the
thread of the views' actions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from durable_nb.client.plans import Plan, Source, plan_of
from durable_nb.client.stepping import Frame, Step, Walk, values_at
from durable_nb.errors import DurableError, InputValidationError
from durable_nb.log import comparing, control, pasts, reads
from durable_nb.log.branches import last_node
from durable_nb.log.pasts import ForkView, Found
from durable_nb.log.records import Recorded, RunView
from durable_nb.tasks.payload import decode
from durable_nb.tasks.schemas import misfit
from durable_nb.views.words import brief, state_of, visible

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.views.widget import Action

T = TypeVar("T")
Read = Callable[[Callable[[sqlite3.Connection], T]], T]

MOST_WALKS = 4
MOST_STOPS = 80  # positions that are sent at once
SHOWN = 4_000  # characters of an outcome
MOST_SHOWN = 400_000
KINDS: tuple[comparing.Same, ...] = ("same", "asks differ", "outcomes differ", "only in the first", "only in the second")
REPLAYED = "replayed"


class Replayed(SimpleNamespace):
    """The locals that a run had at a checkpoint, as values: the name `replayed` of a notebook."""


class Replaying:
    """The actions of the replay tab.

    Args:
        run: the run that the view is of, for calls that name none.
        read: reads from the log in one snapshot.
    """

    def __init__(self, durable: Durable, run: str, read: Read[Any]) -> None:
        self._durable, self._run, self._read = durable, run, read
        self._plans: dict[tuple[str, int], Plan] = {}
        self._walks: dict[tuple[str, int], Walk] = {}

    def actions(self) -> Mapping[str, Action]:
        """Give what the page can ask for."""
        return {
            "past": self._past,
            "positions": self._positions,
            "outcome": self._outcome,
            "into": self._into,
            "fork": self._fork,
            "compare": self._compare,
        }

    # ------------------------------------------------------------ histories

    def _past(self, *, run: str | None = None, branch: int | None = None) -> dict[str, Any]:
        """Give a history: its checkpoints, source, and family."""

        def look(connection: sqlite3.Connection) -> tuple[Plan, dict[str, Any]]:
            view = reads.find_run(connection, run or self._run)
            plan = self._plan(connection, view, branch)
            return plan, _family(connection, view)

        plan, family = self._read(look)
        place = (plan.run.id, plan.past.claim.branch)
        self._plans.pop(place, None)
        self._plans[place] = plan
        for old in list(self._plans)[:-MOST_WALKS]:
            del self._plans[old]
            self._walks.pop(old, None)
        run_ = plan.run
        return {
            "run": _run(run_),
            "branch": place[1],
            "current": plan.past.is_current,
            "checkpoints": [_checkpoint(item) for item in plan.past.recorded],
            "spans": [
                {
                    "version": (span.version or "")[:6],
                    "nodes": [span.nodes[0], span.nodes[-1]] if span.nodes else [],
                    "sources": [_source(source) for source in span.sources],
                    "reason": visible(span.reason),
                }
                for span in plan.spans
            ],
            "family": family,
            "input": _cut(plan.past.claim.input, SHOWN),
        }

    def _plan(self, connection: sqlite3.Connection, view: RunView, branch: int | None) -> Plan:
        durable = self._durable
        return plan_of(connection, view, branch, keyring=durable.keyring, log_id=durable.log_id, tasks=list(durable.tasks))

    def _planned(self, run: str, branch: int) -> Plan:
        if (run, branch) not in self._plans:
            self._past(run=run, branch=branch)
        return self._plans[run, branch]

    def _walk(self, run: str, branch: int, last: int, *, to_end: bool) -> Walk:
        """Give the walk that shows a node, or the end; one through a shorter history will do for a node that it has."""
        plan, walk = self._planned(run, branch), self._walks.get((run, branch))
        if walk is not None and not walk.is_done:
            return walk
        if walk is None or (walk.plan.stamp != plan.stamp and (to_end or last > max(walk.nodes, default=0))):
            walk = self._walks[run, branch] = Walk(plan)
        return walk

    def _positions(self, *, run: str, branch: int, first: int, last: int, end: bool = False) -> dict[str, Any]:
        """Give the positions of nodes as far as they are there, those that show the same folded into one."""
        walk = self._walk(run, branch, last, to_end=end)
        is_done, is_newest = walk.is_done, walk.plan.stamp == self._planned(run, branch).stamp  # before what is read of it
        stops: list[dict[str, Any]] = []
        before: Step | None = None
        for node in [node for node in walk.nodes if first <= node <= last]:
            step = walk.step(node)
            if not step.frames and not step.reason:
                break
            if before is not None and step.frames is before.frames and (step.asker, step.reason) == (before.asker, before.reason):
                stops[-1]["last"] = node
                continue
            if len(stops) == MOST_STOPS:
                break
            stops.append({"first": node, "last": node, **_position(step)})
            before = step
        last_step = walk.step(None)
        there = {**_position(last_step), "state": last_step.state} if is_done and is_newest else None
        return {"stops": stops, "done": is_done, "end": there}

    def _outcome(self, *, run: str, branch: int, node: int, whole: bool = False) -> dict[str, Any]:
        """Give what was asked at a checkpoint and what was recorded, and whether a fork may change it."""
        found = self._found(run, branch, node)
        value, failure = found.value, found.error
        refusal = (
            "" if found.kind in control.REPLACEABLE else f"The outcome of a {found.kind} is the engine's own and is not changed."
        )
        inner = _answer_of(found)
        return {
            "node": node,
            "kind": brief(found.kind, 40),
            "ask": visible(found.ask),
            "line": found.line,
            "asked": found.asked_at,
            "recorded": found.recorded_at,
            "value": None if value is None else _cut(_pretty(value), MOST_SHOWN if whole else SHOWN),
            "size": 0 if value is None else len(value),
            "error": None
            if failure is None
            else [brief(failure.type), visible(failure.message, lines=True), visible(failure.trace, lines=True)],
            "given_up": found.is_abandoned,
            "child": None if found.child_id is None else [brief(found.child or ""), found.child_id],
            "edit": None if inner is None or len(inner) > MOST_SHOWN else _pretty(inner),
            "refusal": refusal,
            "schema": found.schema,
        }

    def _found(self, run: str, branch: int, node: int) -> Found:
        def look(connection: sqlite3.Connection) -> Found:
            return pasts.find_checkpoint(connection, reads.find_run(connection, run), branch, int(node))

        found: Found = self._read(look)
        return found

    # ------------------------------------------------------------ taking part

    def _into(self, *, run: str, branch: int, node: int, frame: int) -> dict[str, Any]:
        """Put the locals of a frame into the notebook, as the name `replayed`."""
        from IPython import get_ipython

        shell = get_ipython()
        if shell is None:
            raise DurableError("There is no notebook here to put them into: `durable.runs.locals_at(run, node)` gives them.")
        values, left_out = values_at(self._planned(run, branch), int(node), int(frame))
        shell.user_ns[REPLAYED] = Replayed(**values)
        return {"names": list(values), "left_out": {name: brief(why) for name, why in left_out.items()}}

    def _fork(self, *, run: str, branch: int, node: int, override: str | None = None) -> dict[str, Any]:
        """Fork a run at a checkpoint; with an override (JSON text) for what it gave."""
        value = None if override is None else self._override(self._found(run, branch, node), override)
        ref = self._durable.runs.fork(run, int(node), value, branch_id=int(branch))
        return {"id": ref.workflow_run_id, "number": ref.number}

    def _override(self, found: Found, text: str) -> Any:
        """Read and judge the value that is to take the place of an outcome.

        Raises:
            InputValidationError: it is no JSON, or not of the type that was recorded there.
        """
        value = decode(text, of="The value")
        if value is None:
            raise InputValidationError("null says that nothing is changed: fork without a changed value, or give another.")
        if found.schema is not None and (reason := misfit(value, found.schema)) is not None:
            raise InputValidationError(f"The value does not fit what '{brief(found.ask, 60)}' takes: {reason}")
        if found.child is not None and found.child in self._durable.tasks:
            task = self._durable.tasks[found.child]
            decode(text, task.output_adapter, of=f"The value is the output of '{brief(found.child, 60)}', and")
        if found.kind != "ask":
            return value
        said = json.loads(found.value) if found.value else {"by": None, "at": found.asked_at}
        return {**said, "answer": value}

    # ------------------------------------------------------------ comparing

    def _compare(self, *, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
        """Give two histories aligned by node."""

        def look(connection: sqlite3.Connection) -> tuple[list[RunView], list[Sequence[Recorded]]]:
            views = [reads.find_run(connection, str(place["run"])) for place in (first, second)]
            found = [
                pasts.past_of(connection, view, place.get("branch")) for view, place in zip(views, (first, second), strict=True)
            ]
            return views, [past.recorded for past in found]

        views, histories = self._read(look)
        return {"sides": [_run(view) for view in views], "rows": [_row(row) for row in comparing.compared(*histories)]}


# ---------------------------------------------------------------- as the page takes it


def _run(view: RunView) -> dict[str, Any]:
    return {
        "id": view.id,
        "number": view.number,
        "task": brief(view.task),
        "branch": view.branch,
        "state": state_of(view).word,
        "ended": view.is_ended,
        "output": None if view.output is None else _cut(_pretty(view.output), SHOWN),
        "error": None if view.error is None else [brief(view.error.type), visible(view.error.message, lines=True)],
        "finished": view.finished_at,
    }


def _state(item: Recorded) -> str:
    if item.outcome is not None and item.outcome.failure is not None:
        return "failed"
    if item.seq is not None:
        return "recorded"
    return "given up" if item.abandoned else "open"


def _checkpoint(item: Recorded) -> list[Any]:
    return [item.node, brief(item.kind, 40), brief(item.ask, 160), item.line, _state(item), item.asked_at, item.recorded_at]


def _source(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "function": source.function,
        "first": source.first_line,
        "lines": [visible(line, lines=True) for line in source.text.splitlines()],
    }


def _position(step: Step) -> dict[str, Any]:
    return {
        "asker": step.asker,
        "frames": [_frame(frame) for frame in step.frames],
        "more": step.tasks_left_out,
        "reason": visible(step.reason),
        "line": step.line,
    }


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "task": frame.task,
        "function": brief(frame.function, 80),
        "source": brief(frame.source, 120),
        "line": frame.line,
        "locals": [
            [brief(local.name, 80), brief(local.type, 60), local.size, brief(local.text, 400), local.change]
            for local in frame.locals
        ],
    }


def _family(connection: sqlite3.Connection, view: RunView) -> dict[str, Any]:
    family = pasts.family_of(connection, view)
    return {
        "branches": [
            {
                "branch": one.branch,
                "parent": one.parent,
                "cut": one.cut,
                "reason": brief(one.reason, 60),
                "at": one.created_at,
                "last": last_node(connection, view.number, one.branch),
            }
            for one in family.branches
        ],
        "forks": [_fork(connection, one) for one in family.forks],
        "origin": None if family.origin is None else _fork(connection, family.origin),
    }


def _fork(connection: sqlite3.Connection, one: ForkView) -> dict[str, Any]:
    return {
        "id": one.id,
        "number": one.number,
        "state": one.status.lower(),
        "branch": one.branch,
        "node": one.node,
        "at": one.created_at,
        "last": last_node(connection, one.number, 1),
    }


def _row(row: comparing.Row) -> list[Any]:
    sides = [
        None if item is None else [brief(item.ask, 120), item.line, _state(item), _gave(item)] for item in (row.first, row.second)
    ]
    if row.kind == "same":
        sides[1] = None
    return [row.node, KINDS.index(row.kind), *sides, [[visible(part) for part in change] for change in row.changes]]


def _gave(item: Recorded) -> str:
    outcome = item.outcome
    if outcome is None:
        return ""
    return brief(f"{outcome.failure.type}: {outcome.failure.message}" if outcome.failure else outcome.value or "null", 120)


def _answer_of(found: Found) -> str | None:
    """Give the part of an outcome that a person would change: of a question the answer, without who gave it."""
    if found.kind != "ask" or found.value is None:
        return found.value
    try:
        return json.dumps(json.loads(found.value)["answer"], ensure_ascii=False)
    except (ValueError, KeyError, TypeError):
        return found.value


def _pretty(text: str) -> str:
    """Give JSON text on several lines where it is worth it; what is no JSON as it is."""
    if len(text) > MOST_SHOWN:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _cut(text: str, length: int) -> str:
    said = visible(text[:length], lines=True)
    return said if len(text) <= length else f"{said}…"
