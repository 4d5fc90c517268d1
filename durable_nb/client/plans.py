"""What a walk through a run's history needs of the log: its checkpoints, and the code that the run had at each of them.

Invariant: code is given for execution only where this user has signed it and the run, or whoever asks says that it is trusted;
else only its source is given, with the reason. Nothing is executed here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from durable_nb.client.guarded import module_path
from durable_nb.client.replayer import History
from durable_nb.client.stepper import WalkJob
from durable_nb.definitions import Code, Definition, Keyring, capture, is_signed
from durable_nb.engine.siblings import Siblings, siblings_in
from durable_nb.errors import DurableError
from durable_nb.log import definitions as stored
from durable_nb.log.definitions import StoredDefinition
from durable_nb.log.pasts import Past, past_of
from durable_nb.log.records import Recorded, RunView
from durable_nb.tasks.task import Kind, Task

Trusts = Callable[[StoredDefinition, Definition], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Source text with the line of its cell on which it begins; `name` is as in `Frame.source`."""

    name: str
    function: str
    first_line: int
    text: str


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
    spans, siblings = [], siblings_in(connection, past.claim)
    for place, (since, version) in enumerate(past.versions):
        until = past.versions[place + 1][0] if place + 1 < len(past.versions) else float("inf")
        nodes = [item.node for item in past.recorded if since <= item.asked_at < until or (place == 0 and item.asked_at < since)]
        if nodes or until == float("inf"):
            spans.append(_span(reader, past, version, nodes, until, siblings))
    return Plan(run=run, past=past, spans=spans)


def _span(
    reader: _Definitions, past: Past, version: str | None, nodes: list[int], until: float, siblings: Siblings | None
) -> Span:
    found, sources, reason = reader.code(past, version)
    job = None
    if found is not None:
        recorded = [_as_of(item, until) for item in past.recorded if item.asked_at < until]
        history = History(past.claim, recorded, past.seeds, past.since, siblings)
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
        if past.recorded and past.recorded[0].kind == "plan":
            return None, (), "A workflow has no function of its own: what was recorded is shown, and each of its tasks is a run."
        if version is None:
            return self._alive()
        row = stored.find_anywhere(self._connection, run.task, version, run.home)
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
