"""Edit and continue: when a cell gives a task new code, each unfinished run's history is replayed against it first.

Runs whose history replays go on with the new code from where they are; all others keep the code that they started with, which
the log has kept. The cell returns at once, and its output is filled in as the check comes along.

Invariants: the new code is executed in another process only, which is killed when it takes too long; a run is moved in one
transaction that finds it as it was checked (unowned, nothing recorded since), and carries its signature along.

Lives on threads of its own; what it needs of the engine, it asks of the engine's thread.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from durable_nb.client.guarded import FIRST_SECONDS, guarded, module_path
from durable_nb.client.replayer import History, Job, Verdict
from durable_nb.engine.siblings import siblings_in
from durable_nb.log import branches, checkpoints, versions
from durable_nb.log.records import Claim
from durable_nb.views.words import brief, counted

if TYPE_CHECKING:
    from durable_nb.notebook.session import Session

HISTORY_SECONDS = 2.0
TOTAL_SECONDS = 120.0
STARTS = 5  # of the process, which is killed at a history that does not end
MOST = 5_000  # unfinished runs that are checked; the rest keep their code
SHOWN = 5  # reasons that are told, and runs that are named for each


@dataclass(frozen=True)
class Edit:
    """A task that was given new code.

    Attributes:
        older: its version before.
    """

    task: str
    kind: str
    version: str
    older: str


class Check:
    """The check of one edit. `report` is what it has found so far, to be shown."""

    def __init__(self, session: Session, edit: Edit, show: Callable[[RenderableType, bool], None]) -> None:
        self._session = session
        self._edit = edit
        self._show = show
        self._moved = 0
        self._busy = 0  # replayed, but executing now, or moved on meanwhile
        self._others: list[Verdict] = []
        self._lines_done: Counter[int] = Counter()  # up to which the code has run, of the runs that go on
        self._ids: dict[int, str] = {}
        self._total = 0
        self._left_out = 0
        self._failure = ""
        self._is_done = False

    def begin(self) -> bool:
        """Begin on a thread, if there is anything to check; give whether there is."""
        edit, home = self._edit, self._session.durable.home
        self._total = self._session.read(
            lambda connection: versions.count_outdated(connection, edit.task, edit.version, home=home)
        )
        if not self._total:
            return False
        self._show(self.report(), False)
        threading.Thread(target=self._run, name="durable_nb edit check", daemon=True).start()
        return True

    def _run(self) -> None:
        try:
            self._check()
        except Exception as error:  # the person reads it where the report would stand; every run keeps its code
            self._failure = f"{type(error).__name__}: {error}"
        self._is_done = True
        self._show(self.report(), True)

    def _check(self) -> None:
        session, edit = self._session, self._edit
        claims: list[tuple[Claim, int]] = session.read(
            lambda connection: versions.list_outdated(connection, edit.task, edit.version, home=session.durable.home, limit=MOST)
        )
        self._left_out = max(0, self._total - MOST)
        self._total = len(claims)
        self._ids = {claim.number: claim.id for claim, _ in claims}
        found = {claim.number: (claim, seq) for claim, seq in claims}
        good: list[tuple[Claim, int]] = []
        shown_at = time.monotonic()
        for verdict in self._verdicts([claim for claim, _ in claims]):
            if verdict.kind == "goes on":
                good.append(found[verdict.number])
                if verdict.line is not None:
                    self._lines_done[verdict.line] += 1
            else:
                self._others.append(verdict)
            if self._is_superseded():
                return
            if time.monotonic() - shown_at > 0.5:
                self._move(good)
                good, shown_at = [], time.monotonic()
                self._show(self.report(), False)
        self._move(good)

    # ------------------------------------------------------------ replaying

    def _verdicts(self, claims: Sequence[Claim]) -> Iterator[Verdict]:
        """Judge every run; one that has recorded nothing goes on with any code."""
        if self._edit.kind == "task":
            yield from (Verdict(number=claim.number, kind="goes on") for claim in claims)
            return
        histories = []
        for claim in claims:
            history = self._history(claim)
            if history.recorded:
                histories.append(history)
            else:
                yield Verdict(number=claim.number, kind="goes on")
        ends_at, starts = time.monotonic() + TOTAL_SECONDS, 0
        while histories:
            if starts == STARTS or time.monotonic() > ends_at:
                reason = "the check took too long"
                yield from (Verdict(number=item.claim.number, kind="not checkable", reason=reason) for item in histories)
                return
            starts += 1
            judged = set()
            for verdict in self._replayed(histories):
                judged.add(verdict.number)
                yield verdict
            if not judged:
                reason = "the process that checks it did not start"
                yield from (Verdict(number=item.claim.number, kind="not checkable", reason=reason) for item in histories)
                return
            histories = [item for item in histories if item.claim.number not in judged]

    def _history(self, claim: Claim) -> History:
        place = (claim.number, claim.branch)

        def read(connection: sqlite3.Connection) -> History:
            recorded, seeds = checkpoints.load_history(connection, *place), branches.seeds_of(connection, *place)
            return History(claim, recorded, seeds, checkpoints.seq_before(connection, *place), siblings_in(connection, claim))

        history: History = self._session.read(read)
        return history

    def _replayed(self, histories: Sequence[History]) -> Iterator[Verdict]:
        """Replay histories in one process, until all are judged or one does not end."""
        job = Job(self._edit.task, self._session.restorable(), histories, module_path())
        with guarded("durable_nb.client.replayer", job) as hear:
            patience, begun = FIRST_SECONDS, None
            while True:
                what = hear(patience)
                if what is None:
                    if begun is not None:
                        reason = f"its replay did not end within {HISTORY_SECONDS:g} s, or ended its process"
                        yield Verdict(number=begun, kind="not checkable", reason=reason)
                    return
                patience = HISTORY_SECONDS
                if "begin" in what:
                    begun = what["begin"]
                else:
                    begun = None
                    yield Verdict(**what)

    # ------------------------------------------------------------ moving

    def _move(self, good: Sequence[tuple[Claim, int]]) -> None:
        """Give the new code to runs whose history replays; those that wait in memory are evicted first."""
        session, edit, durable = self._session, self._edit, self._session.durable
        if not good or self._is_superseded():
            return
        engine = durable.engine

        async def move() -> int:
            for claim, _ in good:
                execution = engine.executions.get(claim.number)
                if execution is not None:
                    await engine.dispatcher.evict(execution)
            signed = [(claim, seq, session.sign_run(claim, edit.version)) for claim, seq in good]
            at = engine.clock.now()
            moved: int = await engine.writer.submit(
                lambda connection: sum(
                    versions.move(connection, claim, edit.version, signature, seq=seq, at=at) for claim, seq, signature in signed
                )
            )
            engine.dispatcher.look()
            return moved

        moved = durable.call(move, aio="a cell")
        self._moved += moved
        self._busy += len(good) - moved

    def _is_superseded(self) -> bool:
        """Whether the task was edited again, so that the next check judges its runs."""
        return self._session.version_of(self._edit.task) != self._edit.version

    # ------------------------------------------------------------ saying

    def report(self) -> RenderableType:
        """Give what was found so far, as text."""
        edit, name = self._edit, brief(self._edit.task)
        head = f"{name} has new code (version {edit.version[:6]}, before {edit.older[:6]})."
        if self._failure:
            keep = "Every run that was not moved yet keeps the code that it started with."
            return Text(f"{head} The check failed ({brief(self._failure)}). {keep}", style="yellow")
        if self._is_superseded():
            return Text(f"{head} It was edited again meanwhile: the newer cell tells what becomes of its runs.")
        judged = self._moved + self._busy + len(self._others)
        if not self._is_done:
            return Text(f"{head} Replaying {counted(self._total, 'unfinished run')} against it: {judged} done.")
        lines = [Text(f"{head} {counted(self._moved, 'unfinished run')} {'goes' if self._moved == 1 else 'go'} on with it.")]
        if self._lines_done:
            done = ", ".join(f"line {line} ({counted(runs, 'run')})" for line, runs in sorted(self._lines_done.items())[:SHOWN])
            more = ", …" if len(self._lines_done) > SHOWN else ""
            lines.append(Text(f"What stands before it has run already, and is not run again: {done}{more}."))
        if self._busy:
            verb = "is executing and keeps" if self._busy == 1 else "are executing and keep"
            lines.append(
                Text(f"{counted(self._busy, 'run')} {verb} the code before; run the cell again to have them checked again.")
            )
        for kind in ("diverges", "fails", "not checkable"):
            lines += self._lines([verdict for verdict in self._others if verdict.kind == kind])
        if self._left_out:
            lines.append(
                Text(f"{counted(self._left_out, 'run')} more were not checked and keep the code before.", style="yellow")
            )
        if self._others:
            lines.append(Text("A run that keeps the code before goes on with it. To undo the edit, run the cell as it was."))
        return Group(*lines)

    def _lines(self, verdicts: Sequence[Verdict]) -> Iterator[Text]:
        alike: dict[str, list[str]] = {}
        node: dict[str, int | None] = {}
        for verdict in verdicts:
            why = _why(verdict)
            alike.setdefault(why, []).append(self._ids[verdict.number])
            node[why] = verdict.node
        for why, ids in list(alike.items())[:SHOWN]:
            named = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
            who = f"run {named} keeps" if len(ids) == 1 else f"{len(ids)} runs ({named}) keep"
            yield Text(f"{who} the code before: {brief(why, 400)}.", style="yellow")
            for run in ids[:SHOWN] if node[why] is not None else ():
                yield Text(f"    to have it in the new code: %durable fork {run} --node {node[why]}")
            yield Text(f"    or to end {'it' if len(ids) == 1 else 'these'}: %durable cancel {' '.join(ids[:SHOWN])}")
        rest = sum(len(ids) for ids in list(alike.values())[SHOWN:])
        if rest:
            yield Text(
                f"{counted(rest, 'run')} more: {verdicts[-1].kind}, each in its own way; all keep the code before.",
                style="yellow",
            )


def _why(verdict: Verdict) -> str:
    if verdict.kind == "diverges":
        before = f" at line {verdict.recorded_line}" if verdict.recorded_line else ""
        now = f" (line {verdict.line})" if verdict.line else ""
        return f"diverges at checkpoint {verdict.node}: recorded {verdict.recorded}{before}, new code asks {verdict.asked}{now}"
    if verdict.kind == "fails":
        return f"the replay fails with {verdict.reason}"
    return f"cannot be checked: {verdict.reason}"
