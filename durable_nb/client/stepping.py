"""Time travel: a run's history, position by position, with what its suspended frames held there.

A `Walk` begins one guarded process for each version of the code that the run has had (see `stepper`), and keeps what it tells; so
every position is there after one pass forward. What this user has not signed is never executed: then the source and what
was recorded are all there is, with the reason.

Invariant: nothing here touches the log, or needs an engine: a `Plan` is read from any log's connection, and walked offline.
"""

from __future__ import annotations

import bisect
import threading
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from durable_nb.client.guarded import FIRST_SECONDS, guarded
from durable_nb.client.plans import Plan, Source, Span
from durable_nb.client.stepper import WalkJob
from durable_nb.errors import DurableError, UnknownCheckpointError
from durable_nb.log.records import ENDED, Recorded, RunView
from durable_nb.tasks.artifacts import ArtifactText
from durable_nb.tasks.payload import decode

STEP_SECONDS = 10.0  # that the code may take from one checkpoint to the next
MODULE = "durable_nb.client.stepper"


# ---------------------------------------------------------------- what is shown


@dataclass(frozen=True, slots=True)
class Local:
    """A local variable at a position: its type, how large it is, and its value in a few words.

    Attributes:
        change: since the position before: ``""``, ``"new"`` or ``"changed"``.
    """

    name: str
    type: str
    size: str
    text: str
    change: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A suspended function.

    Attributes:
        task: which of the run's asyncio tasks it belongs to, 0 for the one that runs the durable task itself.
        source: ``""`` for the task's own source, the name of a function that was captured with it, or a file.
        line: in the lines of the cell.
    """

    task: int
    function: str
    source: str
    line: int
    locals: tuple[Local, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One position in a run's history: where it had asked a checkpoint, and nothing of what that gave was delivered yet.

    Attributes:
        node: the checkpoint's; None for the last position, where the run ended, or is now.
        recorded: the checkpoint as the log has it.
        state: of the last position: ``"returned"``, ``"raised"``, ``"cancelled"``, ``"waits"`` or ``"stopped"`` (the replay).
        asker: the asyncio task that asked.
        frames: the suspended frames, by asyncio task, the outermost first. tasks_left_out: how many asyncio tasks more there are.
        reason: why there are no frames, or why the replay stopped here; ``""`` where all is well.
        version: of the code that the run had here.
    """

    node: int | None
    recorded: Recorded | None
    state: str
    asker: int
    frames: tuple[Frame, ...]
    tasks_left_out: int
    reason: str
    version: str | None

    @property
    def line(self) -> int | None:
        """The line of the task's source on which it stands."""
        if self.recorded is not None and self.recorded.line is not None:
            return self.recorded.line
        own = [frame for frame in self.frames if frame.source == ""]
        return own[-1].line if own else None

    @property
    def locals(self) -> dict[str, Local]:
        """The locals of the innermost function that asked, by name."""
        own = [frame for frame in self.frames if frame.task == self.asker] or list(self.frames)
        return {local.name: local for local in own[-1].locals} if own else {}


# ---------------------------------------------------------------- walking


@dataclass(frozen=True, slots=True)
class _Stop:
    """What one rest of the run told."""

    first: int
    last: int
    askers: int | list[int]
    frames: tuple[Frame, ...]
    more: int

    def asker(self, node: int) -> int:
        return self.askers if isinstance(self.askers, int) else self.askers[node - self.first]


class Walk:
    """A walk through a planned history. It works on a thread of its own; every method may be called from any thread."""

    def __init__(self, plan: Plan, *, patience: float = STEP_SECONDS) -> None:
        self.plan = plan
        self.is_done = False
        self._patience = patience
        self._recorded = {item.node: item for item in plan.past.recorded}
        self._span_of = {node: span for span in plan.spans for node in span.nodes}
        self._stops: list[_Stop] = []
        self._texts: dict[Any, Any] = {}  # what is told again and again is kept once
        self._reasons: dict[int, str] = {}  # by span, why its walk ended before its last node
        self._end: dict[str, Any] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="durable_nb walk", daemon=True).start()

    @property
    def nodes(self) -> list[int]:
        """The nodes of the history, in order."""
        return list(self._recorded)

    @property
    def known(self) -> int:
        """The last node whose frames are there."""
        return self._stops[-1].last if self._stops else 0

    def finish(self) -> Steps:
        """Wait for the end of the walk; give all positions."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_done)
        return Steps(self)

    def wait(self, node: int | None, seconds: float) -> None:
        """Wait until a node's frames are there, or the walk has ended, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_done or (node is not None and self.known >= node), seconds)

    def step(self, node: int | None) -> Step:
        """Give the position of a node, or the last one.

        Raises:
            UnknownCheckpointError: the history has no such node.
        """
        if node is None:
            return self._last()
        recorded = self._recorded.get(node)
        if recorded is None:
            run = self.plan.run
            raise UnknownCheckpointError(
                f"Run {run.id} of '{run.task}' has no node {node} on branch {self.plan.past.claim.branch}."
            )
        span = self._span_of[node]
        stop = self._stop(node)
        reason = (
            "" if stop else span.reason or self._reasons.get(id(span), "" if not self.is_done else "the replay did not come here")
        )
        return Step(
            node=node,
            recorded=recorded,
            state="",
            asker=stop.asker(node) if stop else 0,
            frames=stop.frames if stop else (),
            tasks_left_out=stop.more if stop else 0,
            reason=reason,
            version=span.version,
        )

    def _stop(self, node: int) -> _Stop | None:
        stops = self._stops
        place = bisect.bisect_left(stops, node, key=lambda stop: stop.last)
        return stops[place] if place < len(stops) and stops[place].first <= node else None

    def _last(self) -> Step:
        span, end = self.plan.spans[-1], self._end
        state = end.get("state", "stopped")
        if state != "raised" and self.plan.past.is_current and self.plan.run.status in ENDED:
            state = {"COMPLETED": "returned", "FAILED": "raised", "CANCELLED": "cancelled"}[self.plan.run.status]
        return Step(
            node=None,
            recorded=None,
            state=state,
            asker=0,
            frames=end.get("frames", ()),
            tasks_left_out=end.get("more", 0),
            reason=end.get("reason", "") or span.reason,
            version=span.version,
        )

    # ------------------------------------------------------------ on its thread

    def _work(self) -> None:
        try:
            for span in self.plan.spans:
                if span.job is not None:
                    self._follow(span, span.job)
        except Exception as error:  # the person reads it where the locals would stand
            self._end = {"reason": f"{type(error).__name__}: {error}"}
        with self._changed:
            self.is_done = True
            self._changed.notify_all()

    def _follow(self, span: Span, job: WalkJob) -> None:
        last = max(span.nodes, default=0)
        is_final = span is self.plan.spans[-1]
        for what in _said(job, self._patience):
            if "nodes" in what:
                first, upto = max(what["nodes"][0], job.first), what["nodes"][1]
                askers = what["askers"] if isinstance(what["askers"], int) else what["askers"][first - what["nodes"][0] :]
                self._stops.append(_Stop(first, upto, askers, self._frames(what), what["more"]))
                with self._changed:
                    self._changed.notify_all()
                if upto >= last and not is_final:
                    return
            elif "end" in what:
                reason = (
                    "" if what["state"] in ("raised", "returned", "cancelled") and not self._is_short(span) else what["reason"]
                )
                self._reasons[id(span)] = what["reason"] or "the replay ended before it came here"
                if is_final:
                    self._end = {**what, "reason": reason, "frames": self._frames(what)}

    def _is_short(self, span: Span) -> bool:
        return bool(span.nodes) and self.known < max(span.nodes)

    def _frames(self, what: dict[str, Any]) -> tuple[Frame, ...]:
        return tuple(
            self._once(
                Frame(
                    frame["task"],
                    self._once(frame["function"]),
                    self._once(frame["source"]),
                    frame["line"],
                    tuple(self._once(Local(*map(self._once, local))) for local in frame["locals"]),
                )
            )
            for frame in what["frames"]
        )

    def _once(self, value: Any) -> Any:
        return self._texts.setdefault(value, value)


def _said(job: WalkJob, patience: float) -> Iterator[dict[str, Any]]:
    """Give what the process says, and at its end, if it did not say one itself, why."""
    last, seconds = 0, FIRST_SECONDS
    with guarded(MODULE, job) as hear:
        while (what := hear(seconds)) is not None:
            yield what
            seconds = patience
            if "end" in what or "values" in what:
                return
            last = what.get("nodes", (0, last))[1]
    where = f"after checkpoint {last}" if last else "before the first checkpoint"
    reason = f"the replay did not go on {where} within {patience:g} s, or ended its process"
    yield {"end": "not checkable", "reason": reason, "line": None, "frames": [], "more": 0, "state": "stopped"}


class Steps(Sequence[Step]):
    """All positions of a run's history, in order: one for each checkpoint, and where the run ended or is now.

    Example:
        >>> for step in durable.runs.step_through(ref):  # doctest: +SKIP
        ...     print(step.node, step.line, {name: local.text for name, local in step.locals.items()})
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._nodes: list[int | None] = [*walk.nodes, None]

    @property
    def run(self) -> RunView:
        """The run."""
        return self._walk.plan.run

    @property
    def sources(self) -> Sequence[tuple[str | None, tuple[Source, ...]]]:
        """The source of each version that the run has had on this branch."""
        return [(span.version, span.sources) for span in self._walk.plan.spans]

    def at(self, node: int) -> Step:
        """Give the position of a checkpoint.

        Raises:
            UnknownCheckpointError: there is none.
        """
        return self._walk.step(node)

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._walk.step(node) for node in self._nodes[place]]
        return self._walk.step(self._nodes[place])

    def __repr__(self) -> str:
        return f"<{len(self)} positions of run {self.run.id} of {self.run.task!r}>"


def values_at(plan: Plan, node: int, frame: int, *, patience: float = STEP_SECONDS) -> tuple[dict[str, Any], dict[str, str]]:
    """Replay up to a node once more; give the locals of a frame as values, and of those that have no such form the reason.

    A value is what JSON, or an artifact, brings back: an instance of a class of the notebook comes as a dict of its fields.

    Raises:
        DurableError: it cannot be replayed up to there.
    """
    span = next((span for span in plan.spans if node in span.nodes), None)
    if span is None or span.job is None:
        why = span.reason if span else f"There is no node {node} on this branch."
        raise DurableError(why)
    for what in _said(replace(span.job, first=1, values_at=(node, frame)), patience):
        if "values" in what:
            return {name: _decoded(name, *said) for name, said in what["values"].items()}, what["left_out"]
        if "end" in what:
            raise DurableError(
                f"The locals at checkpoint {node} cannot be had: {what['reason'] or 'the replay ended before it'}."
            )
    raise AssertionError("what a process says has an end")


def _decoded(name: str, text: str, artifacts: dict[str, str]) -> Any:
    if not artifacts:
        return decode(text, of=f"`{name}`")
    return decode(ArtifactText(text, {digest: b64decode(body) for digest, body in artifacts.items()}), of=f"`{name}`")
