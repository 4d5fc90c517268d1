"""Records: what passes between the log and the engine. Plain data, frozen; payloads are JSON text."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from durable_nb.errors import FailedTaskRunExceptionGroup, TaskRunError
from durable_nb.log.needs import IdempotencyKey, Need

OUR_FOLDERS = tuple(str(Path(__file__).parent.parent / name) for name in ("engine", "backends"))


def format_trace(error: BaseException) -> str:
    """Give a traceback as text: the frames of user code only, without carets under them.

    Carets would have Python parse each line, and before 3.12 two threads that parse at once can raise SystemError in one another.
    """
    top = traceback.TracebackException.from_exception(error)
    todo: list[traceback.TracebackException | None] = [top]
    while todo:
        part = todo.pop()
        if part is not None:
            frames = [frame for frame in part.stack if not frame.filename.startswith(OUR_FOLDERS)]
            for frame in frames:
                frame.colno = frame.end_colno = None
            part.stack = traceback.StackSummary.from_list(frames)
            todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return "".join(top.format())


def holdable(text: str) -> str:
    """Give text as the log can hold it: half of a surrogate pair, which UTF-8 has no form for, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # its own code, which may do anything
        return "(an error whose text cannot be made)"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run, memo or step failed, as the log keeps it."""

    type: str
    message: str
    trace: str = ""
    run_id: str = ""
    is_cancel: bool = False  # the run did not fail, it was cancelled
    members: tuple[Failure, ...] = ()  # of a workflow's run of which several tasks failed

    @classmethod
    def of(cls, error: BaseException, run_id: str = "", *, with_members: bool = False) -> Failure:
        """Take down an exception; one that came from another run keeps its own account.

        Args:
            with_members: whether the members of a group are failures that whoever waits for the run is to see.
        """
        if with_members and isinstance(error, FailedTaskRunExceptionGroup):
            return cls(type(error).__name__, error.message, run_id=run_id, members=tuple(map(cls.of, error.exceptions)))
        if isinstance(error, TaskRunError):
            return cls(holdable(error.exc_type), holdable(error.exc), holdable(error.trace), error.task_run_external_id or run_id)
        return cls(type(error).__name__, holdable(_message_of(error)), holdable(format_trace(error)), run_id)

    @classmethod
    def from_json(cls, text: str) -> Failure:
        """Read what `to_json` wrote; what is not of that form is the message."""
        try:
            return cls._read(json.loads(text))
        except (ValueError, TypeError, AttributeError):
            return cls("UnreadableError", text)

    def to_json(self) -> str:
        """Give it as the log keeps it."""
        return json.dumps(self._plain(), ensure_ascii=False)

    @classmethod
    def _read(cls, fields: dict[str, Any]) -> Failure:
        return cls(**{**fields, "members": tuple(cls._read(member) for member in fields.get("members", ()))})

    def _plain(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"type": self.type, "message": self.message, "trace": self.trace, "run_id": self.run_id}
        if self.is_cancel:
            fields["is_cancel"] = True
        return {**fields, "members": [member._plain() for member in self.members]} if self.members else fields

    def to_error(self) -> TaskRunError:
        """Give the one error that live and replayed code see."""
        return TaskRunError(self.message, self.type, self.trace, self.run_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a checkpoint or run: a JSON value, or a failure."""

    value: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A checkpoint as the log has it. `seq` is None while it is not satisfied."""

    node: int
    kind: str
    ask: str
    fingerprint: bytes
    asked_at: float
    seq: int | None = None
    outcome: Outcome | None = None
    abandoned: bool = False
    child: int | None = None
    line: int | None = None
    recorded_at: float | None = None
    branch: int = 1


NEVER = 2**62  # above every node and sequence number
CANCEL = 0  # the node of a cancel, which belongs to none; nodes begin at 1


@dataclass(frozen=True, slots=True)
class Completion:
    """A checkpoint's outcome on its way to the run that asked, or a cancel of that run (`node` is `CANCEL`).

    Attributes:
        after: of a cancel that was delivered before, the last node that was asked then.
    """

    run: int
    seq: int
    node: int
    branch: int
    outcome: Outcome
    owner: str | None = None
    after: int | None = None


@dataclass(slots=True)
class Effects:
    """What a transaction did to runs, for those in memory who must hear of it after its commit.

    Attributes:
        ended: number, status and outcome of the runs that ended.
        left: numbers of the runs that were taken from their owner.
        has_room: places were given back, so that others may be let in.
    """

    completions: list[Completion] = field(default_factory=list)
    ended: list[tuple[int, str, Outcome]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    has_room: bool = False

    def add(self, other: Effects) -> None:
        """Take in what else the transaction did."""
        self.completions += other.completions
        self.ended += other.ended
        self.left += other.left
        self.has_room |= other.has_room

    def clear(self) -> None:
        """Begin the transaction anew."""
        for kept in (self.completions, self.ended, self.left):
            kept.clear()
        self.has_room = False


class Cut(NamedTuple):
    """What a run that is taken up again asks afresh: everything from the node `limit` on, and the `dropped` nodes below it.

    Attributes:
        limit: None, where everything that was asked stays.
        undone_from: failures with this sequence number or a higher one are asked afresh too, since nothing that
            was kept follows from them.
    """

    limit: int | None
    dropped: Sequence[int] = ()
    undone_from: int = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be made. Input and metadata are JSON text."""

    id: str
    task: str
    kind: str
    version: str | None
    input: str
    metadata: str = "{}"
    priority: int = 1
    parent: int | None = None
    child_key: str | None = None
    child_index: int | None = None
    key: str | None = None
    home: str = ""
    signature: bytes | None = None
    deadline: float | None = None
    cancel_grace: float = 30.0
    cancel_with_parent: bool = True
    forked_from: int | None = None
    seeds: str | None = None
    event: str | None = None
    filter_payload: str | None = None
    needs: tuple[Need, ...] = ()
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that this worker owns now, with what its attempt needs. Writes for it carry `epoch`."""

    number: int
    id: str
    task: str
    kind: str
    version: str | None
    input: str
    metadata: str
    epoch: int
    branch: int
    retry_count: int
    invocation_count: int
    worked: float
    parent: int | None
    parent_id: str | None
    child_key: str | None
    child_index: int | None
    home: str
    signature: bytes | None
    seeds: str | None
    cancelled_at: float | None
    event: str | None = None
    filter_payload: str | None = None

    @property
    def has_history(self) -> bool:
        """Whether the log may hold checkpoints for it."""
        return self.invocation_count > 1 or self.seeds is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run's current state, for handles and views.

    Attributes:
        gate: 0 while it waits for a place of its concurrency, or for a rate limit.
        event: the id of the event that started it.
    """

    number: int
    id: str
    task: str
    kind: str
    version: str | None
    status: str
    is_evicted: bool
    blocked_reason: str | None
    key: str | None
    parent: int | None
    retry_count: int
    invocation_count: int
    branch: int
    owner: str | None
    ready_at: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    input: str
    output: str | None
    error: Failure | None
    metadata: str = "{}"
    home: str = ""
    progress: float | None = None
    progress_message: str | None = None
    deadline: float | None = None
    cancelled_at: float | None = None
    gate: int = 2
    event: str | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in ENDED


CELL_KEY = "cell:"  # how the keys begin that name what a cell has started; people give the others
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWait:
    """One condition of a wait to be registered.

    Attributes:
        since: events that were accepted from then on count too, the latest of them first.
        filter_fields, filter_value: what its expression wants to be equal (`engine.cel.equalities`), for the index.
    """

    item: int
    group: int
    kind: str
    name: str
    due_at: float | None = None
    key: str | None = None
    scope: str | None = None
    expression: str | None = None
    schema: str | None = None
    since: float | None = None
    filter_fields: str = ""
    filter_value: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a task asks at one checkpoint: its kind, the ask in words, and the fingerprint of exactly what was asked."""

    kind: str
    words: str
    fingerprint: bytes
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event to be accepted. Payload and metadata are JSON text."""

    id: str
    key: str
    payload: str
    scope: str | None = None
    metadata: str = "{}"
    priority: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedEvent:
    """An event in the log."""

    seq: int
    id: str
    key: str
    scope: str | None
    payload: str
    metadata: str
    accepted_at: float
    priority: int | None = None


@dataclass(slots=True, kw_only=True)
class EventReport:
    """What an event did: the runs whose waits it satisfied or advanced, those that it started, and what failed on it.

    Attributes:
        started_runs: ids of the runs of tasks that listen to its key.
        near_misses: in words: filters that failed on it, payloads that do not fit, runs that exist already.
    """

    event_id: str
    key: str
    matched_runs: list[str] = field(default_factory=list)
    near_misses: list[str] = field(default_factory=list)
    started_runs: list[str] = field(default_factory=list)
