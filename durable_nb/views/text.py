"""Runs as rich text: the tree of one, the table of many, a line for a log. From records of the log to renderables.

Invariant: data goes into `rich.text.Text`, never into markup, after `words.visible`.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from durable_nb.log.lines import Line
from durable_nb.log.reads import CheckpointView, WaitView
from durable_nb.log.records import CELL_KEY, RunView
from durable_nb.views import words
from durable_nb.views.words import State, brief, counted, duration, moment, state_of, visible, wait_words

WIDTH = 120  # of plain text
FOLD = 5  # checkpoints of one kind in a row that are still shown one by one
LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "DEBUG": "dim"}
NOTED = {"sleep": "sleep", "event": "event", "wait": "wait", "child": "child", "spawn": "spawned", "result": "result"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """Everything that the views of one run show, as one snapshot of the log has it.

    Attributes:
        children: (task, status, count).
        lines: the newest lines of its log, of `line_count`.
        now: the time of the snapshot, UTC seconds.
    """

    run: RunView
    checkpoints: Sequence[CheckpointView]
    children: Sequence[tuple[str, str, int]]
    waits: Sequence[WaitView]
    now: float
    lines: Sequence[Line] = ()
    line_count: int = 0


def plain(renderable: RenderableType) -> str:
    """Give a renderable as text without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


# ---------------------------------------------------------------- one run


def run_summary(detail: RunDetail) -> Tree:
    """Give a run as a small tree: its state, its children by task, what was passed over, what it waits for, its outcome."""
    tree = Tree(_headline(detail), guide_style="dim")
    for label in (*_children(detail), *_passed_over(detail), *_waits(detail)):
        tree.add(label)
    _add_said(tree, detail, 3)
    for label in _outcome(detail, with_trace=False):
        tree.add(label)
    return tree


def run_history(detail: RunDetail) -> Tree:
    """Give a run with all that the log knows of it: times, input, checkpoints, children, waits, outcome and trace."""
    run = detail.run
    tree = Tree(_headline(detail), guide_style="dim")
    for label in _facts(detail):
        tree.add(label)
    if detail.checkpoints:
        branch = tree.add(Text(counted(len(detail.checkpoints), "checkpoint")))
        for label in _checkpoints(detail.checkpoints, several_branches=run.branch > 1):
            branch.add(label)
    for label in (*_children(detail), *_waits(detail)):
        tree.add(label)
    _add_said(tree, detail, len(detail.lines))
    for label in _outcome(detail, with_trace=True):
        tree.add(label)
    return tree


def _headline(detail: RunDetail) -> Text:
    run = detail.run
    state = state_of(run, waits=bool(detail.waits))
    line = Text.assemble((str(state), state.colour), " ", (brief(run.task), "bold"), f" #{run.number} ", (brief(run.id), "dim"))
    if run.started_at is not None and run.finished_at is not None:
        line.append(f" in {duration(run.finished_at - run.started_at)}")
    elif run.started_at is not None:
        line.append(f" for {duration(detail.now - run.started_at)}")
    if run.progress is not None and not run.is_ended:
        line.append(f" · {words.progress(run)}", style="cyan")
    return line


def _facts(detail: RunDetail) -> Iterator[Text]:
    run = detail.run
    times = [("created", run.created_at), ("started", run.started_at), ("finished", run.finished_at)]
    times += [("cancel asked for", run.cancelled_at), ("deadline", run.deadline)]
    yield Text(", ".join(f"{word} {moment(at)}" for word, at in times if at is not None))
    parts = [
        f"key {brief(run.key)}" if run.key and not run.key.startswith(CELL_KEY) else "",
        f"version {brief(run.version)}" if run.version else "",
    ]
    parts.append(f"attempt {run.retry_count + 1}" if run.retry_count else "")
    parts.append(f"entered {run.invocation_count} times" if run.invocation_count > 1 else "")
    parts.append(f"home {brief(run.home)}" if run.home else "")
    if any(parts):
        yield Text(", ".join(part for part in parts if part))
    yield Text(f"input {brief(run.input)}")
    if run.metadata != "{}":
        yield Text(f"metadata {brief(run.metadata)}")


def _children(detail: RunDetail) -> Iterator[Text]:
    by_task = groupby(detail.children, key=lambda child: child[0])
    for task, counts in by_task:
        line = Text.assemble("children ", (brief(task), "bold"), ": ")
        yield line.append_text(_counts((words.BY_STATUS[status], count) for _, status, count in counts))


def _passed_over(detail: RunDetail) -> Iterator[Text]:
    """The tasks of a workflow that were not run, with the reason; many as a number."""
    found = [checkpoint for checkpoint in detail.checkpoints if checkpoint.kind in PASSED_OVER]
    if len(found) > FOLD:
        yield _counts(Counter(_state(checkpoint) for checkpoint in found).items())
        return
    for checkpoint in found:
        state = _state(checkpoint)
        yield Text(f"{state} {brief(checkpoint.ask)}", style=state.colour)


def _counts(counts: Iterable[tuple[State, int]]) -> Text:
    parts = [Text(f"{state.symbol} {count} {state.word}", style=state.colour) for state, count in counts]
    return Text(", ").join(parts)


def _waits(detail: RunDetail) -> Iterator[Text]:
    for _, group in groupby(detail.waits, key=lambda wait: wait.node):
        alternatives = list(group)
        line = Text(f"{words.WAITING.symbol} waits for ", style=words.WAITING.colour)
        yield line.append(" or ".join(wait_words(wait, detail.now) for wait in alternatives))
        for wait in alternatives:
            if wait.filter_error:
                yield Text(f"the filter failed on the last event: {brief(wait.filter_error)}", style="yellow")


def _add_said(tree: Tree, detail: RunDetail, most: int) -> None:
    """Add the newest lines of the run's log, and say where all of them are."""
    if detail.lines:
        shown = list(detail.lines)[-most:]
        rest = f", all with `{words.COMMAND} log {brief(detail.run.id)}`" if len(shown) < detail.line_count else ""
        branch = tree.add(Text(f"said {counted(detail.line_count, 'line')}{rest}"))
        for line in shown:
            branch.add(_line(line, cut=True))


def run_log(run: RunView, lines: Sequence[Line]) -> Table:
    """Give lines of a run's log with their times, levels and source lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("at", "line", "said"):
        table.add_column(column, no_wrap=column != "said")
    for line in lines:
        number = "" if line.line is None else str(line.line)
        table.add_row(Text(moment(line.at), style="dim"), Text(number, style="dim"), _line(line, cut=False))
    return table


def run_line(line: Line) -> str:
    """Give a line of a run's log as plain text."""
    number = "" if line.line is None else f"line {line.line}: "
    return f"{moment(line.at)}  {number}{_line(line, cut=False)}"


def _line(line: Line, *, cut: bool) -> Text:
    level = "" if line.level == "INFO" else f"{brief(line.level.lower())}: "
    text = brief(line.text) if cut else visible(line.text, lines=True)
    return Text.assemble((level, LEVELS.get(line.level, "")), text)


def _outcome(detail: RunDetail, *, with_trace: bool) -> Iterator[Text]:
    run = detail.run
    if run.blocked_reason is not None and not run.is_ended:
        yield Text(f"{words.PARKED.symbol} {brief(run.blocked_reason, 600)}", style=words.PARKED.colour)
        yield Text(f"take it up again: {words.COMMAND} retake {brief(run.id)}")
    if run.error is not None:
        said = brief(run.error.message, 600)
        if run.error.is_cancel:
            yield Text(said, style=words.CANCELLED.colour)
        else:
            yield Text(f"{brief(run.error.type)}: {said}", style=words.FAILED.colour)
        if with_trace and run.error.trace:
            yield Text(visible(run.error.trace.rstrip(), lines=True), style="dim")
    if run.status == "COMPLETED":
        yield Text(f"output {brief(run.output or 'null')}")


# ---------------------------------------------------------------- checkpoints


def _checkpoints(checkpoints: Sequence[CheckpointView], *, several_branches: bool) -> Iterator[Text]:
    for _, group in groupby(checkpoints, key=_alike):
        members = list(group)
        if len(members) > FOLD:
            yield _folded(members)
        else:
            yield from (_checkpoint(member, several_branches=several_branches) for member in members)


def _alike(checkpoint: CheckpointView) -> tuple[int, str, str]:
    """What checkpoints must share to be folded: branch, kind, and the first word of the ask, which names the task."""
    return checkpoint.branch, checkpoint.kind, checkpoint.ask.partition(" ")[0]


def _folded(members: Sequence[CheckpointView]) -> Text:
    first, last, name = members[0], members[-1], members[0].ask.partition(" ")[0]
    line = Text(f"{first.node}–{last.node} {_kind(first)} {brief(name)}: ")
    return line.append_text(_counts(Counter(_state(member) for member in members).items()))


def _checkpoint(checkpoint: CheckpointView, *, several_branches: bool) -> Text:
    state = _state(checkpoint)
    number = f"{checkpoint.branch}.{checkpoint.node}" if several_branches else str(checkpoint.node)
    kind = _kind(checkpoint)
    ask = brief(checkpoint.ask)
    line = Text.assemble(f"{number} ", (state.symbol, state.colour), " ", ask if ask.startswith(kind) else f"{kind} {ask}")
    if checkpoint.line is not None:
        line.append(f" · line {checkpoint.line}", style="dim")
    if checkpoint.recorded_at is not None:
        line.append(f" · {state.word} after {duration(checkpoint.recorded_at - checkpoint.asked_at)}", style="dim")
    else:
        line.append(f" · {state.word}", style="dim")
    return line


def _kind(checkpoint: CheckpointView) -> str:
    return NOTED.get(checkpoint.kind, brief(checkpoint.kind))


RECORDED = State("✓", "recorded", "green")
OPEN = State("◌", "open", "magenta")
GIVEN_UP = State("⊘", "given up", "yellow")
PASSED_OVER = {"skip": State("↷", "skipped", "cyan"), "cancel": words.CANCELLED}  # a workflow's tasks that did not run


def _state(checkpoint: CheckpointView) -> State:
    if checkpoint.is_failed:
        return words.FAILED
    if checkpoint.kind in PASSED_OVER:
        return PASSED_OVER[checkpoint.kind]
    if checkpoint.seq is not None:
        return RECORDED
    return GIVEN_UP if checkpoint.is_abandoned else OPEN


# ---------------------------------------------------------------- many runs


def runs_table(runs: Sequence[tuple[RunView, Sequence[WaitView]]], now: float) -> Table:
    """Give runs with their open waits as a table, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "task", "state", "since", "took", "input → output"):
        table.add_column(column, justify="right" if column == "#" else "left", no_wrap=column not in ("state", "input → output"))
    for run, waits in runs:
        state = state_of(run, waits=bool(waits))
        table.add_row(
            Text(str(run.number)),
            Text(brief(run.task, 40), style="bold"),
            Text(_state_words(run, waits, state, now), style=state.colour),
            Text(moment(run.created_at), style="dim"),
            Text(_took(run, now)),
            Text(_ends(run)),
        )
    return table


def _state_words(run: RunView, waits: Sequence[WaitView], state: State, now: float) -> str:
    if state is words.WAITING and waits:
        first = [wait for wait in waits if wait.node == waits[0].node]
        more = len({wait.node for wait in waits}) - 1
        said = f"{state.symbol} waits for " + " or ".join(wait_words(wait, now) for wait in first)
        return said + (f", and {more} more" if more else "")
    if run.status == "QUEUED" and run.ready_at is not None and run.ready_at > now:
        return f"{state} (tries again in {duration(run.ready_at - now)})"
    if run.status == "QUEUED" and run.gate == 0:
        return f"{state} (waits for a place: concurrency or rate limit)"
    return f"{state} {words.progress(run)}" if run.progress is not None and not run.is_ended else str(state)


def _took(run: RunView, now: float) -> str:
    if run.started_at is None:
        return ""
    return duration((run.finished_at if run.finished_at is not None else now) - run.started_at)


def _ends(run: RunView) -> str:
    given = brief(run.input, 48)
    if run.error is not None and not run.error.is_cancel:
        return f"{given} → {brief(run.error.type, 40)}: {brief(run.error.message, 60)}"
    return f"{given} → {brief(run.output or 'null', 48)}" if run.status == "COMPLETED" else given


# ---------------------------------------------------------------- the log


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """What the line at loading tells of a log.

    Attributes:
        going: unfinished runs that a person started and that can go on here.
        waiting: runs that wait for an event. asking: runs that wait for a person, who finds them in the inbox.
        lacking: names of tasks whose runs wait for their definition, each with the number of such runs.
        untrusted: names of tasks whose definition does not carry this user's signature.
    """

    path: Path
    going: int
    waiting: int
    blocked: int
    asking: int = 0
    lacking: Sequence[tuple[str, int]]
    untrusted: Sequence[str]


def log_line(state: LogState) -> str:
    """Give a log's state in one line.

    >>> log_line(LogState(path=Path("a.db"), going=2, waiting=1, blocked=0, lacking=[("clean", 3)], untrusted=[]))
    'durable_nb: log a.db: 2 runs go on, 1 waits for an event, 3 lack their definition (run the cell of clean).'
    """
    parts = [f"{counted(state.going, 'run goes', 'runs go')} on", f"{counted(state.waiting, 'waits', 'wait')} for an event"]
    if state.asking:
        parts.append(f"{counted(state.asking, 'waits', 'wait')} for an approval (`%durable inbox`)")
    if state.blocked:
        parts.append(f"{counted(state.blocked, 'is parked', 'are parked')}")
    lacking = sum(count for _, count in state.lacking)
    if lacking:
        names = ", ".join(brief(name, 40) for name, _ in state.lacking)
        parts.append(f"{counted(lacking, 'lacks its', 'lack their')} definition (run the cell of {names})")
    else:
        parts.append("none lacks its definition")
    if state.untrusted:
        names = ", ".join(brief(name, 40) for name in state.untrusted)
        parts.append(f"not signed by you, so not restored: {names} (run the cell, or `%durable trust`)")
    return f"durable_nb: log {visible(str(state.path))}: {', '.join(parts)}."
