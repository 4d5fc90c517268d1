"""Time travel: a run's history, position by position, with what its suspended frames held there.

A `Walk` begins one guarded process for each version of the code that the run has had (see `stepper`), and keeps what it tells; so
every position is there after one pass forward. What this user has not signed is never executed: then the source and what
was recorded are all there is, with the reason.

Invariant: nothing here touches the log, or needs an engine: a `Plan` is read from any log's connection, and walked offline.
"""

from __future__ import annotations

import bisect
import sqlite3
import threading
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from durable_nb.client.guarded import FIRST_SECONDS, guarded, module_path
from durable_nb.client.replayer import History
from durable_nb.client.stepper import WalkJob
from durable_nb.definitions import Code, Definition, Keyring, capture, is_signed
from durable_nb.errors import DurableError, UnknownCheckpointError
from durable_nb.log import definitions as stored
from durable_nb.log.pasts import Past, past_of
from durable_nb.log.records import ENDED, Recorded, RunView
from durable_nb.tasks.artifacts import ArtifactText
from durable_nb.tasks.payload import decode
from durable_nb.tasks.task import Kind, Task

if TYPE_CHECKING:
    from durable_nb.log.definitions import StoredDefinition

STEP_SECONDS = 10.0  # that the code may take from one checkpoint to the next
MODULE = "durable_nb.client.stepper"

Trusts = Callable[["StoredDefinition", Definition], bool]


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
class Source:
    """Source text with the line of its cell on which it begins; `name` is as in `Frame.source`."""

    name: str
    function: str
    first_line: int
    text: str


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


# ---------------------------------------------------------------- what is to be walked


@dataclass(frozen=True, kw_only=True)
class Span:
    """The part of a history in which the run had one version of its code.

    Attributes:
        nodes: the checkpoints that it asked with it. job: None, where it cannot be replayed, for a reason.
    """

    version: str | None
    nodes: Sequence[int]
    sources: tuple[Source, ...]
    job: WalkJob | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a walk needs of the log."""

    run: RunView
    past: Past
    spans: Sequence[Span]

    @property
    def stamp(self) -> tuple[object, ...]:
        """What is different when the history has grown."""
        recorded, run = self.past.recorded, self.run
        done = sum(item.seq is not None for item in recorded)
        return run.number, self.past.claim.branch, len(recorded), done, run.status, run.version


def plan_of(
    connection: sqlite3.Connection,
    run: RunView,
    branch: int | None = None,
    *,
    keyring: Keyring | None = None,
    log_id: str = "",
    tasks: Iterable[Task[Any]] = (),
    trusts: Trusts | None = None,
) -> Plan:
    """Read what a walk through a run's history needs; in the caller's snapshot.

    Args:
        keyring: of this user: only what it has signed is executed. tasks: of this process, for runs of a script, whose code
            no log keeps.
        trusts: in place of the keyring: says of a definition of the log whether it may be executed.

    Raises:
        UnknownCheckpointError: there is no such branch.
    """
    past = past_of(connection, run, branch)
    reader = _Definitions(connection, run, keyring, log_id, list(tasks), trusts)
    spans = []
    for place, (since, version) in enumerate(past.versions):
        until = past.versions[place + 1][0] if place + 1 < len(past.versions) else float("inf")
        nodes = [item.node for item in past.recorded if since <= item.asked_at < until or (place == 0 and item.asked_at < since)]
        if nodes or until == float("inf"):
            spans.append(_span(reader, past, version, nodes, until))
    return Plan(run=run, past=past, spans=spans)


def _span(reader: _Definitions, past: Past, version: str | None, nodes: list[int], until: float) -> Span:
    found, sources, reason = reader.code(past, version)
    job = None
    if found is not None:
        recorded = [_as_of(item, until) for item in past.recorded if item.asked_at < until]
        history = History(past.claim, recorded, past.seeds, past.since)
        cancel = past.cancel if until == float("inf") else None
        job = WalkJob(past.claim.task, found, [history], module_path(), cancel, min(nodes, default=1))
    return Span(version=version, nodes=nodes, sources=sources, job=job, reason=reason)


def _as_of(item: Recorded, until: float) -> Recorded:
    if item.recorded_at is None or item.recorded_at < until:
        return item
    return replace(item, seq=None, outcome=None, recorded_at=None)


class _Definitions:
    """The code of tasks as a walk finds it: signed in the log, or alive in this process."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        run: RunView,
        keyring: Keyring | None,
        log_id: str,
        tasks: list[Task[Any]],
        trusts: Trusts | None,
    ) -> None:
        self._connection, self._run, self._tasks = connection, run, tasks
        self._keyring, self._log_id, self._trusts = keyring, log_id, trusts

    def code(self, past: Past, version: str | None) -> tuple[dict[str, tuple[Kind, str]] | None, tuple[Source, ...], str]:
        """Give the definitions of the run's task, and of those that it may refer to, with its source; or why there are none."""
        run = self._run
        if run.kind == "task":
            return None, (), "A regular task has no checkpoints: it runs from its start to its end."
        if version is None:
            return self._alive()
        row = stored.find(self._connection, run.task, version, run.home)
        if row is None:
            return (
                None,
                (),
                f"The log does not hold the code of '{run.task}' (version {version[:6]}): what was recorded is shown.",
            )
        try:
            definition = Definition.from_json(row.body)
            sources = _sources(definition)
            is_trusted = self._is_trusted(row, definition)
        except DurableError as error:
            return None, (), str(error)
        if not is_trusted or not self._is_run_trusted(past):
            what = "run" if is_trusted else "code"
            return (
                None,
                sources,
                (
                    f"The {what} does not carry your signature, so nothing is executed: "
                    "its source and what was recorded are shown."
                ),
            )
        if definition.lost:
            return None, sources, f"It cannot be replayed: {definition.lost[0]}"
        others = {
            other.task: (other.kind, other.body)
            for other in stored.list_newest(self._connection, run.home)
            if other.task != run.task and self._is_restorable(other)
        }
        return {**others, run.task: (row.kind, row.body)}, sources, ""  # type: ignore[dict-item]

    def _is_trusted(self, row: StoredDefinition, definition: Definition) -> bool:
        if self._trusts is not None:
            return self._trusts(row, definition)
        return self._keyring is not None and is_signed(self._keyring, self._log_id, row, definition)

    def _is_run_trusted(self, past: Past) -> bool:
        """Whether this user has started the run: with another's input, one's own code may do what one never meant."""
        if self._trusts is not None:
            return True
        now = past.now
        parts = ("run", self._log_id, now.id, now.task, now.version or "", now.input)
        return now.signature is not None and self._keyring is not None and self._keyring.verify(now.signature, *parts)

    def _is_restorable(self, row: StoredDefinition) -> bool:
        try:
            definition = Definition.from_json(row.body)
            return definition.is_restorable and self._is_trusted(row, definition)
        except DurableError:
            return False

    def _alive(self) -> tuple[dict[str, tuple[Kind, str]] | None, tuple[Source, ...], str]:
        """Capture the functions of this process: a script's."""
        name = self._run.task
        references: dict[int, str] = {id(task): f"task:{task.name}" for task in self._tasks}
        references |= {id(task.host): "app" for task in self._tasks}
        found: dict[str, tuple[Kind, str]] = {}
        reason = f"The code of '{name}' is neither in the log nor in this process: what was recorded is shown."
        sources: tuple[Source, ...] = ()
        for task in self._tasks:
            try:
                definition = capture(task.function, references=references)
            except (DurableError, TypeError, OSError) as error:
                reason = str(error) if task.name == name else reason
                continue
            if task.name == name:
                sources, reason = _sources(definition), f"It cannot be replayed: {definition.lost[0]}" if definition.lost else ""
            if not definition.lost:
                found[task.name] = (task.kind, definition.to_json())
        return (found if name in found else None), sources, reason


def _sources(definition: Definition) -> tuple[Source, ...]:
    own = Source(name="", function=definition.name, first_line=definition.first_line, text=definition.source)
    helpers = [
        Source(name=code.name, function=code.name, first_line=code.first_line, text=code.source)
        for code in definition.bindings
        if isinstance(code, Code)
    ]
    return (own, *helpers)


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
