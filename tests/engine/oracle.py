"""The oracle: what must come of a program, told without a log, without asyncio and without replay.

It decides everything but one thing: in which order outcomes have come that may come in any order (two children at work). That it
reads from the log, and checks each for being allowed just then. What each coroutine does next, what it asks as which node, which
outcome it gets, what a retry keeps, and how the run ends is its own.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.engine.programs import Operation

Steps = Generator["Future", Any, Any]
CHILD_RETRIES = 1  # of the task `child`
STEP_RETRIES = 1


class FailedError(Exception):
    """A failure in the oracle: of checkpoints (then it has nodes), or of the program itself."""

    nodes: tuple[int, ...] = ()


class Continued(Exception):  # noqa: N818  it is no error
    """The program goes on with an empty history."""


class CancelledError(BaseException):
    """Thrown into a generator that is to wait no more.

    Attributes:
        is_lost: since a race was won without it.
    """

    def __init__(self, *, is_lost: bool) -> None:
        super().__init__()
        self.is_lost = is_lost


# ---------------------------------------------------------------- futures

Ready = deque[Callable[[], None]]  # what moves next, in turn: as in asyncio, nobody is told anything before his turn


class Future:
    """What a generator of the oracle waits for."""

    def __init__(self, ready: Ready) -> None:
        self.ready = ready
        self.is_done = False
        self.is_cancelled = False
        self._value: Any = None
        self._error: FailedError | None = None
        self._then: list[Callable[[], None]] = []

    def when_done(self, callback: Callable[[], None]) -> None:
        """Have a callback take its turn when this is done."""
        (self.ready if self.is_done else self._then).append(callback)

    def settle(self, value: Any = None, error: FailedError | None = None) -> None:
        if not self.is_done:
            self._value, self._error = value, error
            self._end()

    def _end(self) -> None:
        self.is_done = True
        self.ready.extend(self._then)

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def error(self) -> FailedError | None:
        return self._error

    def cancel(self, *, is_lost: bool = False) -> None:
        """Be waited for no more.

        Args:
            is_lost: since a race was won without it.
        """
        if not self.is_done:
            self.is_cancelled = True
            self._end()


class Ended(Future):
    """That all of some are done, whatever came of them."""

    def __init__(self, parts: Sequence[Future]) -> None:
        super().__init__(parts[0].ready)
        self._open = len(parts)
        for part in parts:
            part.when_done(self._count)

    def _count(self) -> None:
        self._open -= 1
        if not self._open:
            self.settle()


class All(Future):
    """The values of all, or the first failure.

    Args:
        is_owner: they are cancelled with it.
    """

    def __init__(self, parts: Sequence[Future], *, is_owner: bool = True) -> None:
        super().__init__(parts[0].ready)
        self._parts, self._open, self._is_owner = parts, len(parts), is_owner
        for part in parts:
            part.when_done(lambda part=part: self._look(part))  # type: ignore[misc]

    def _look(self, part: Future) -> None:
        self._open -= 1
        if part.error is not None:
            self.settle(error=part.error)
        elif part.is_cancelled:
            super().cancel()
        elif not self._open and not self.is_done:
            self.settle([part.result() for part in self._parts])

    def cancel(self, *, is_lost: bool = False) -> None:
        if not self._is_owner:
            super().cancel()
        elif not self.is_done:  # until they are
            for part in self._parts:
                part.cancel(is_lost=is_lost)


class First(Future):
    """The place of the first that is done."""

    def __init__(self, parts: Sequence[Future]) -> None:
        super().__init__(parts[0].ready)
        for place, part in enumerate(parts):
            part.when_done(lambda place=place: self.settle(place))  # type: ignore[misc]


class Contest:
    """What a select's parts run in, with all that they begin."""

    is_won = False  # and the others have lost


class Coroutine(Future):
    """A generator that is moved on whenever what it waits for is there.

    Args:
        contests: those that it runs in, and all that it begins.
    """

    def __init__(self, model: Model, steps: Steps, contests: tuple[Contest, ...]) -> None:
        ready = model.ready
        super().__init__(ready)
        self.is_continued = False
        self._model, self._steps, self._contests = model, steps, contests
        self._waits_for: Future | None = None
        self._cancel: CancelledError | None = None
        ready.append(self.step)

    def step(self) -> None:
        waited, self._waits_for = self._waits_for, None
        cancel, self._cancel = self._cancel, None
        self._model.contests = self._contests
        try:
            if cancel is not None:
                future = self._steps.throw(cancel)
            elif waited is None:
                future = next(self._steps)
            elif waited.error is not None:
                future = self._steps.throw(waited.error)
            else:
                future = self._steps.send(waited.result())
        except StopIteration as end:
            self.settle(end.value)
        except FailedError as failure:
            self.settle(error=failure)
        except CancelledError:
            super().cancel()
        except Continued:
            self.is_continued = True
            self.settle()
        else:
            self._waits_for = future
            future.when_done(self.step)

    def cancel(self, *, is_lost: bool = False) -> None:
        if not self.is_done:
            self._cancel = CancelledError(is_lost=is_lost)
            if self._waits_for is not None:
                self._waits_for.cancel(is_lost=is_lost)


@dataclass(frozen=True)
class Row:
    """A checkpoint in the log."""

    branch: int
    node: int
    kind: str
    words: str
    child: int
    asked_at: float
    seq: int | None
    recorded_at: float
    outcome: str
    error: str | None
    abandoned: int
    conditions: str | None

    @property
    def floor(self) -> int:
        """The number of the last event that was accepted before it was asked."""
        return int(json.loads(self.conditions or "[[0]]")[0][-1])


class Asked(Future):
    """A checkpoint that the oracle says was asked."""

    def __init__(self, model: Model, row: Row, due: Callable[[Row], bool], keys: Sequence[str], *, fails: bool) -> None:
        super().__init__(model.ready)
        self._model = model
        self.given_up_at = 0  # with how many outcomes delivered, and one more
        self.fails = fails
        self.row = row
        self.due = due
        self.keys = keys
        self._contests = model.contests

    def cancel(self, *, is_lost: bool = False) -> None:
        if not self.is_done:
            self.ready.append(lambda: self._give_up(is_lost))
            super().cancel()

    def _give_up(self, is_lost: bool) -> None:
        """Be taken down as given up: when the code is told that it is cancelled, a select around it may have been won by then."""
        self.given_up_at = 1 + self._model.delivered
        if self.row.child and (is_lost or any(contest.is_won for contest in self._contests)):
            self._model.world.lose(self.row.child)


# ---------------------------------------------------------------- the oracle's runs


class Model:
    """A durable run, as the oracle sees it."""

    def __init__(self, world: World, number: int, run_id: str, program: Operation, at: str, retries: int) -> None:
        self.world, self.number, self.run_id = world, number, run_id
        self._program, self._at, self._retries = program, at, retries
        self.ready: Ready = deque()
        self.contests: tuple[Contest, ...] = ()  # of the coroutine that moves
        self.memos: dict[str, Asked] = {}  # by place
        self.attempt = 0
        self.branch = 1
        self.is_cancelled = False
        self.is_lost = False  # its parent needs it no more, so it is cancelled unless it ends before
        self.round = 0  # how often it was continued as new
        self._mail_before: dict[tuple[str, int], int] = {}  # how many events the mailboxes of earlier histories have given
        self._cancelled_with: set[int] = set()  # nodes whose children it was waiting for then
        self._kept: dict[int, int] = {}  # node -> the branch that has it, of what a retry keeps
        self._begin()

    def _begin(self) -> None:
        self.asks: dict[int, Asked] = {}
        self._asked_before: dict[int, int] = {}  # node -> the next node when its outcome was delivered
        self._position = 0  # in the run's completions
        self._mail_given: dict[tuple[str, int], int] = {}
        self.ready.clear()
        self.contests = ()
        self._is_left = False
        self._main = self.spawn(self._program.oracle(self, self._at))
        self._main.when_done(lambda: self.ready.append(self._leave))
        self._move()
        if self._main.is_continued:  # without having asked anything
            self._go_on()

    def _move(self) -> None:
        while self.ready and not self._is_left:
            self.ready.popleft()()

    def _leave(self) -> None:
        """Be left by the engine, which is told of the end as everybody is: two turns after it."""
        self._is_left = True

    def spawn(self, steps: Steps, *contest: Contest) -> Coroutine:
        """Start a coroutine, as `asyncio.create_task` does."""
        return Coroutine(self, steps, (*self.contests, *contest))

    def owner(self, node: int) -> int:
        """Give the branch that has a node."""
        return self._kept.get(node, self.branch)

    def place(self, row: Row) -> str:
        """Give a checkpoint's name for people."""
        return f"{self.run_id}/{row.branch}/{row.node}"

    @property
    def delivered(self) -> int:
        """The last sequence number that it was given."""
        return (self.world.completions[self.number][self._position - 1].seq or 0) if self._position else 0

    def open_mailbox(self, key: str) -> tuple[str, int]:
        """Give a new mailbox: its key, and how many of this key were opened before."""
        mailbox = key, sum(other == key for other, _ in self._mail_given)
        self._mail_given[mailbox] = self._mail_before.get(mailbox, 0)
        return mailbox

    def next_mail(self, mailbox: tuple[str, int]) -> Any:
        """Give the payload that a mailbox gives next, or None."""
        return next(iter(self.mail(mailbox[0])[self._mail_given[mailbox] :]), None)

    def take(self, mailbox: tuple[str, int]) -> Any:
        """Take the next event out of a mailbox."""
        payload = self.next_mail(mailbox)
        self._mail_given[mailbox] += 1
        return payload

    def mail(self, key: str) -> list[Any]:
        """Give the payloads of a key that were accepted since the run began."""
        [(floor,)] = self.world.read("SELECT event_floor FROM run WHERE number = ?", self.number)
        return [payload for other, payload in self.world.events[floor:] if other == key]

    def ask(self, kind: str, words: str, due: Callable[[Row], bool], keys: Sequence[str] = (), *, fails: bool = False) -> Asked:
        """Take the next node; what the log has there must be this.

        Args:
            due: whether its outcome may, and so must, be there by now.
            keys: the events that bring it.
            fails: it is a step that fails for good.
        """
        node = len(self.asks) + 1
        row = self.world.rows[self.number].get((self.owner(node), node))
        is_short = kind in ("memo", "step") or self.world.run(self.number)[0] == "CANCELLED"
        if row is None and is_short:  # it has a row when it is done: none, where the run ends, or is cancelled, before
            row = Row(self.owner(node), node, kind, words, 0, 0.0, None, 0.0, "", None, 0, None)
        assert row is not None, (
            f"run {self.number} must have asked {kind} '{words}' as node {node}: {self.world.told(self.number)}"
        )
        assert row.kind == kind and row.words.startswith(words), f"node {node} must be {kind} '{words}', but is {row}"
        self.asks[node] = asked = Asked(self, row, due, keys, fails=fails)
        return asked

    def ask_memo(self, at: str) -> Asked:
        """Take the next node for a memo."""
        asked = self.memos[at] = self.ask("memo", "memo", due=lambda row: True)
        return asked

    @property
    def is_ended(self) -> bool:
        """Whether its program has ended for good."""
        return self._main.is_done

    def result(self) -> Any:
        """Give what it ended with."""
        return self._main.result()

    def deliver(self) -> bool:
        """Deliver the next outcome that the log has, if it may be there; tell whether something moved."""
        completions = self.world.completions[self.number]
        cancelled = None if self.is_cancelled else self.world.cancels.get((self.number, self.branch))
        is_over = self.is_ended or all((row.seq or 0) > (cancelled or 0) for row in completions[self._position :])
        if cancelled is not None and is_over:  # before its end was written, perhaps
            if not self.is_lost:
                return False  # until it is told why
            self.cancel()
            for child in self.world.children(self.number):
                self.world.lose(child)
            return True
        if self.is_ended or self._position >= len(completions):
            return False
        row = completions[self._position]
        if row.branch == self.owner(row.node):
            asked = self.asks.get(row.node)
            if asked is None or not asked.due(row):
                return False
            self._asked_before[row.node] = len(self.asks) + 1
            self._hand_over(asked, row)
        self._position += 1
        self._move()
        self._go_on()
        return True

    def _go_on(self) -> None:
        """Begin again, where the program was continued as new or has an attempt left."""
        if self._main.is_continued:
            self._mail_before |= self._mail_given
            self._kept, self.attempt, self.branch, self.round = {}, 0, self.branch + 1, self.round + 1
            self._begin()
        elif self._main.is_done and self._main.error is not None and self.attempt < self._retries:
            self._retry(self._main.error)

    def _hand_over(self, asked: Asked, row: Row) -> None:
        if asked.is_cancelled:
            return
        if row.error is None:
            assert not asked.fails, f"node {row.node} must have failed"
            asked.settle(row)
            return
        failure = self._failure(asked)
        assert failure is not None, f"node {row.node} failed in the log, and should not: {row.error}"
        failure.nodes = (row.node,)
        asked.settle(error=failure)

    def _failure(self, asked: Asked) -> FailedError | None:
        """Give how a step or a child must have failed."""
        if not asked.row.child:
            return FailedError("step") if asked.fails else None
        child = self.world.models.get(asked.row.child)
        if child is not None:
            return None if child._main.error is None else FailedError(str(child._main.error))
        return FailedError("child") if self.world.must_fail(asked.row.child) else None

    def _is_lost(self, asked: Asked) -> bool:
        """Whether the program gave a wait up, so that nothing will satisfy it any more."""
        return asked.given_up_at > 0 and not asked.row.child and self._is_open(asked)

    def _is_open(self, asked: Asked) -> bool:
        row = self.world.rows[self.number].get((self.owner(asked.row.node), asked.row.node))
        return row is None or row.seq is None

    def _retry(self, failure: FailedError) -> None:
        """Begin again: failures of checkpoints cut the branch where the first was delivered, one of the program's own keeps all.

        Failures that the program had not seen by then are asked afresh as well. Which of those came before the next attempt began
        (the others are for that) the log tells.
        """
        rows = self.world.rows[self.number]  # a memo that was in flight has none
        cut, undone_from = len(self.asks) + 1, self.delivered + 1
        if failure.nodes:
            undone_from, cut = min((self._row(node).seq or 0, self._asked_before[node]) for node in failure.nodes)
        lost = {node for node, asked in self.asks.items() if self._is_lost(asked)}
        late = {node for node, asked in self.asks.items() if node < cut and self._is_late(asked, undone_from)}
        branch, dropped, begun_at = self.world.attempt(self)
        must = {node for node in (*failure.nodes, *lost) if node < cut and (self.owner(node), node) in rows}
        assert must <= dropped <= must | late, f"{must} and perhaps {late} must be dropped, not {dropped}"
        assert all(self._row(node).recorded_at >= begun_at for node in late - dropped), f"{late} must be dropped, not {dropped}"
        assert (branch > self.branch) == bool(failure.nodes or lost or dropped), f"branch {branch} after {self.branch}"
        kept = [node for node in self.asks if node < cut and node not in dropped and (self.owner(node), node) in rows]
        self._kept = {node: self.owner(node) for node in kept}
        self.branch = branch
        self.attempt += 1
        self._begin()

    def _row(self, node: int) -> Row:
        return self.world.rows[self.number][self.owner(node), node]

    def _is_late(self, asked: Asked, undone_from: int) -> bool:
        """Whether a failure was recorded that the program had not seen; but for those of what it had given up before."""
        row = self.world.rows[self.number].get((self.owner(asked.row.node), asked.row.node))
        if row is None or row.error is None or (row.seq or 0) < undone_from:
            return False
        was_cancelled = asked.given_up_at == undone_from and self.world.is_cancelled(row.child)
        return not (0 < asked.given_up_at < undone_from or was_cancelled)

    def cancel(self) -> None:
        """Be cancelled while it waits: nothing more is asked."""
        self.is_cancelled = True
        self._cancelled_with = {node for node, asked in self.asks.items() if asked.row.child and not asked.is_done}
        self._main.cancel()
        self._move()

    def edit(self, program: Operation) -> None:
        """Be replayed with another program, which asks the same so far."""
        self._program = program
        self._begin()

    def retake(self) -> None:
        """Be taken up again after it was blocked: what the program gave up is asked afresh."""
        lost = {node for node, asked in self.asks.items() if self._is_lost(asked)}
        rows = self.world.rows[self.number]
        lost = {node for node in lost if (self.owner(node), node) in rows}
        if lost:
            self._kept = {node: self.owner(node) for node in self.asks if node not in lost and (self.owner(node), node) in rows}
            self.branch += 1
        self._begin()

    def replay(self) -> None:
        """Be replayed after its end: as it was where it was completed, else as a retry; a cancelled one from where it stood."""
        if self.is_cancelled:
            self.attempt += 1
            self.reset(len(self.asks) + 1)
        elif self._main.error is not None:
            self._retry(self._main.error)
        else:
            self.attempt += 1

    def reset(self, cut: int) -> None:
        """Ask a node and all after it afresh; children that are not kept are cancelled."""
        is_over = self.is_ended and self._main.error is None and not self.is_cancelled
        rows = self.world.rows[self.number]
        undone = [row.seq for (where, node), row in rows.items() if node >= cut and where == self.owner(node) and row.seq]
        undone_from = min(undone, default=None)
        kept = [
            (node, asked)
            for node, asked in self.asks.items()
            if node < cut
            and node not in self._cancelled_with
            and not self._is_lost(asked)
            and not self._was_lost_after(asked, undone_from)
            and not (is_over and self._is_open(asked) and not asked.row.child)
        ]
        children = {asked.row.child for _, asked in kept}
        for number in self.world.children(self.number) - children:
            self.world.cancel(number)
        self._kept = {node: self.owner(node) for node, _ in kept}
        self.branch += 1
        self.is_cancelled, self._cancelled_with = False, set()
        self._begin()

    def _was_lost_after(self, asked: Asked, undone_from: int | None) -> bool:
        """Whether a child was given up and cancelled for what a reset undoes."""
        if undone_from is None or asked.given_up_at <= undone_from or not self.world.is_cancelled(asked.row.child):
            return False
        row = self.world.rows[self.number][self.owner(asked.row.node), asked.row.node]
        return row.seq is None or row.error is not None

    def check(self) -> None:
        """Compare with the log, all being at rest."""
        status, output, branch, retry_count = self.world.run(self.number)
        told = f"run {self.number} is {status}: {self.world.told(self.number)}"
        if self.is_cancelled:
            assert status == "CANCELLED", told
        elif self.is_ended:
            assert status == ("FAILED" if self._main.error else "COMPLETED"), told
            assert self._main.error or json.loads(output) == self.result(), told
        else:
            assert status == "RUNNING", told
            left = self.world.completions[self.number][self._position :]
            assert not left, f"run {self.number} has outcomes that may not be there: {left}"
            missing = [asked.row for asked in self.asks.values() if not asked.is_done and asked.due(asked.row)]
            assert not missing, f"run {self.number} waits for what is there: {missing}"
        assert (branch, retry_count) == (self.branch, self.attempt), told
        mine = {node for where, node in self.world.rows[self.number] if where == self.owner(node)}
        in_flight = {node for node in self.asks if self.asks[node].row.kind in ("memo", "step")} if self.is_ended else set()
        if self.is_cancelled:
            in_flight = set(self.asks)
        assert mine <= set(self.asks) and set(self.asks) - mine <= in_flight, told


@dataclass
class World:
    """All runs of the oracle, what happened to them from outside, and the log that they are compared with."""

    read: Callable[..., list[tuple[Any, ...]]]
    now: float = 0.0
    events: list[tuple[str, Any]] = field(default_factory=list)  # key and payload, in the order in which they were accepted
    answers: dict[str, int] = field(default_factory=dict)  # by the question's id
    models: dict[int, Model] = field(default_factory=dict)
    rows: dict[int, dict[tuple[int, int], Row]] = field(default_factory=dict)
    completions: dict[int, list[Row]] = field(default_factory=dict)
    cancels: dict[tuple[int, int], int] = field(default_factory=dict)  # by run and branch: the place among its outcomes

    def pushed(self, key: str, row: Row) -> Any:
        """Give the payload of the first event of a key that was accepted after a checkpoint was asked, or None."""
        return next((payload for other, payload in self.events[row.floor :] if other == key), None)

    def add(self, number: int, program: Operation, at: str, retries: int) -> None:
        """Follow a run, unless it is followed already."""
        if number not in self.models:
            self._load(number)
            [(run_id,)] = self.read("SELECT id FROM run WHERE number = ?", number)
            self.models[number] = Model(self, number, run_id, program, at, retries)

    def incarnation(self, number: int) -> int:
        """Give how many runs were made before at the place of a child."""
        sql = """SELECT count(*) FROM run JOIN run AS this ON this.number = ?
                 WHERE run.task = this.task AND run.input ->> 'at' = this.input ->> 'at' AND run.number < this.number"""
        return int(self.read(sql, number)[0][0])

    def must_fail(self, number: int) -> bool:
        """Whether a child of this number fails for good."""
        [(task, fails)] = self.read("SELECT task, input ->> 'fails' FROM run WHERE number = ?", number)
        tries = 1 if task == "dag" else 1 + CHILD_RETRIES
        return bool((self.incarnation(number) + 1) * tries <= fails)

    def children(self, number: int) -> set[int]:
        """Give the children of a run."""
        return {child for (child,) in self.read("SELECT number FROM run WHERE parent = ?", number)}

    def cancel(self, number: int) -> None:
        """Be told that a run was cancelled, with all below it, but for what has ended."""
        model = self.models.get(number)
        if model is None or model.is_ended:
            return
        model.cancel()
        for child in self.children(number):
            self.cancel(child)

    def lose(self, number: int) -> None:
        """Be told that a run is not needed any more: it is cancelled, unless it has ended before."""
        if number in self.models:
            self.models[number].is_lost = True
        assert self.run(number)[0] in ("CANCELLED", "COMPLETED", "FAILED"), f"run {number} goes on though nobody needs it"

    def is_cancelled(self, number: int) -> bool:
        """Whether the cancel of a run was asked for."""
        return bool(self.read("SELECT 1 FROM run WHERE number = ? AND cancelled_at IS NOT NULL", number))

    def attempt(self, model: Model) -> tuple[int, set[int], float]:
        """Give the branch of a run's next attempt, the nodes that it has dropped since the one before, and when it began."""
        entries = self.read(
            "SELECT kind, at, data ->> 'branch' FROM journal "
            "WHERE run = ? AND kind IN ('retried', 'replayed', 'continued', 'entered') ORDER BY seq",
            model.number,
        )
        histories = [0, *(place for place, entry in enumerate(entries) if entry[0] == "continued")]
        here = entries[histories[model.round] :]
        begins = [place for place, entry in enumerate(here) if entry[0] in ("retried", "replayed")]
        first = begins[model.attempt]
        at, entered = next((entry[1:] for entry in here[first:] if entry[0] == "entered"), (here[first][1], None))
        branch = entered or here[first][2]
        sql = "SELECT dropped FROM branch WHERE run = ? AND branch > ? AND branch <= ?"
        lists = self.read(sql, model.number, model.branch, branch)
        return branch, {node for (text,) in lists for node in json.loads(text)}, at

    def load(self) -> None:
        """Read the log, which has changed by something that is told the oracle next."""
        for number in self.models:
            self._load(number)

    def sync(self, now: float) -> None:
        """Follow the log to where it is, and compare everything."""
        self.now = now
        self.load()
        while sum(model.deliver() for model in list(self.models.values())):
            pass
        for model in self.models.values():
            model.check()

    def _load(self, number: int) -> None:
        rows = self.read(
            "SELECT branch, node, kind, ask, child, asked_at, seq, recorded_at, outcome, error, abandoned, conditions "
            "FROM checkpoint WHERE run = ?",
            number,
        )
        self.rows[number] = {row[:2]: Row(*row) for row in rows}
        for branch, seq in self.read("SELECT branch, seq FROM cancel WHERE run = ?", number):
            self.cancels[number, branch] = seq
        done = [row for row in self.rows[number].values() if row.seq is not None]
        self.completions[number] = sorted(done, key=lambda row: row.seq or 0)

    def run(self, number: int) -> tuple[Any, ...]:
        """Give status, output, branch and retry count of a run."""
        return self.read("SELECT status, output, branch, retry_count FROM run WHERE number = ?", number)[0]

    def told(self, number: int) -> list[tuple[int, int, str, int | None]]:
        """Give what a run asked, for an error's text."""
        return [(row.branch, row.node, row.words, row.seq) for row in self.rows[number].values()]

    def wanted(self) -> Asked | None:
        """Give something that a run waits for and that nobody brings by itself."""
        asked = [asked for model in self.models.values() if not model.is_ended for asked in model.asks.values()]
        open_ = [item for item in asked if not item.is_done and item.row.kind in ("sleep", "event", "wait", "take", "ask")]
        return open_[0] if open_ else None
