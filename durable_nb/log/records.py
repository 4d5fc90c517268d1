"""Records: what passes between the log and the engine. Plain data, frozen; payloads are JSON text."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from durable_nb.errors import TaskRunError

ENGINE_FOLDER = str(Path(__file__).parent.parent / "engine")


def format_trace(error: BaseException) -> str:
    """Give a traceback as text: the frames of user code only, without carets under them.

    Carets would have Python parse each line, and before 3.12 two threads that parse at once can raise SystemError in one another.
    """
    top = traceback.TracebackException.from_exception(error)
    todo: list[traceback.TracebackException | None] = [top]
    while todo:
        part = todo.pop()
        if part is not None:
            frames = [frame for frame in part.stack if not frame.filename.startswith(ENGINE_FOLDER)]
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

    @classmethod
    def of(cls, error: BaseException, run_id: str = "") -> Failure:
        """Take down an exception; one that came from another run keeps its own account."""
        if isinstance(error, TaskRunError):
            return cls(holdable(error.exc_type), holdable(error.exc), holdable(error.trace), error.task_run_external_id or run_id)
        return cls(type(error).__name__, holdable(_message_of(error)), holdable(format_trace(error)), run_id)

    @classmethod
    def from_json(cls, text: str) -> Failure:
        """Read what `to_json` wrote; what is not of that form is the message."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return cls("UnreadableError", text)

    def to_json(self) -> str:
        """Give it as the log keeps it."""
        return json.dumps(
            {"type": self.type, "message": self.message, "trace": self.trace, "run_id": self.run_id}, ensure_ascii=False
        )

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


@dataclass(frozen=True, slots=True)
class Completion:
    """A checkpoint's outcome on its way to the run that asked."""

    run: int
    seq: int
    node: int
    branch: int
    outcome: Outcome
    owner: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run's current state, for handles and views."""

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

    @property
    def is_ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in ENDED


CELL_KEY = "cell:"  # how the keys begin that name what a cell has started; people give the others
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWait:
    """One condition of a wait to be registered."""

    item: int
    group: int
    kind: str
    name: str
    due_at: float | None = None
    key: str | None = None
    scope: str | None = None
    expression: str | None = None
    schema: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a task asks at one checkpoint: its kind, the ask in words, and the fingerprint of exactly what was asked."""

    kind: str
    words: str
    fingerprint: bytes
    line: int | None = None


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


@dataclass(slots=True, kw_only=True)
class EventReport:
    """What an event did: the runs whose waits it satisfied or advanced, and the filters that failed on it."""

    event_id: str
    key: str
    matched_runs: list[str] = field(default_factory=list)
    near_misses: list[str] = field(default_factory=list)
