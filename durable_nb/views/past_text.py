"""Histories as rich text: one position, all of them, a run's branches and forks, and two histories side by side. Pure.

Invariant: as in `text`: data goes into `rich.text.Text` after `words.visible`, never into markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from durable_nb.client.plans import Source
from durable_nb.client.stepping import Frame, Step, Steps
from durable_nb.log.comparing import Comparison, Row
from durable_nb.log.pasts import Family, ForkView
from durable_nb.log.records import Recorded, RunView
from durable_nb.views.words import BY_STATUS, brief, counted, duration, moment, visible

AROUND = 4  # lines of source above and below the one on which it stands
ENDS = {
    "returned": "the function returned",
    "raised": "the function raised",
    "cancelled": "it was cancelled",
    "waits": "it waits now",
    "stopped": "the replay stopped",
}
SIGNS = {
    "same": ("=", "dim"),
    "asks differ": ("≠", "yellow"),
    "outcomes differ": ("≠", "yellow"),
    "only in the first": ("−", "red"),
    "only in the second": ("+", "green"),
}


# ---------------------------------------------------------------- positions


def position(steps: Steps, step: Step) -> RenderableType:
    """Give one position: the checkpoint, the source around the line, the locals of each suspended function, what was recorded."""
    parts: list[RenderableType] = [_headline(steps, step)]
    if step.reason:
        parts.append(Text(visible(step.reason), style="yellow"))
    sources = next((sources for version, sources in steps.sources if version == step.version), ())
    for frame in [frame for frame in step.frames if frame.task == step.asker] or step.frames:
        parts += [*_excerpt(frame, sources), _locals(frame)]
    others = len({frame.task for frame in step.frames} - {step.asker}) + step.tasks_left_out
    if others and step.node is not None:
        parts.append(Text(f"and {counted(others, 'asyncio task')} more", style="dim"))
    if step.recorded is not None:
        parts.append(_outcome(step.recorded))
    return Group(*parts)


def positions(steps: Steps) -> Table:
    """Give all positions of a history: what was asked on which line, and the locals that were new or changed there."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "asked", "line", "new and changed locals"):
        table.add_column(column, justify="right" if column in ("", "line") else "left", no_wrap=column in ("", "line"))
    for step in steps:
        changed = [local for local in step.locals.values() if local.change]
        said = ", ".join(f"{brief(local.name, 40)}={brief(local.text, 40)}" for local in changed)
        asked = brief(step.recorded.ask, 60) if step.recorded else ENDS.get(step.state, step.state)
        node = "" if step.node is None else str(step.node)
        table.add_row(Text(node), Text(asked), Text(str(step.line or "")), Text(said or brief(step.reason, 80), style="cyan"))
    return table


def _headline(steps: Steps, step: Step) -> Text:
    run = steps.run
    line = Text.assemble((brief(run.task), "bold"), f" #{run.number} ")
    if step.recorded is None:
        return line.append(ENDS.get(step.state, step.state))
    last = next((one.node for one in reversed(steps[:-1])), step.node)
    line.append(f"checkpoint {step.node} of {last}: {brief(step.recorded.ask)}")
    return line.append(f" · line {step.line}" if step.line is not None else "", style="dim")


def _excerpt(frame: Frame, sources: Sequence[Source]) -> Iterator[Text]:
    source = next((source for source in sources if source.name == frame.source), None)
    if source is None:
        yield Text(f"{brief(frame.function)} line {frame.line}", style="dim")
        return
    for number, code in enumerate(source.text.splitlines(), source.first_line):
        if abs(number - frame.line) <= AROUND:
            is_here = number == frame.line
            yield Text(f"{'▶' if is_here else ' '}{number:>5} {visible(code, lines=True)}", style="bold" if is_here else "dim")


def _locals(frame: Frame) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for local in frame.locals:
        kind = " ".join(filter(None, [brief(local.type, 40), local.size]))
        style = "blue" if local.change else ""
        table.add_row(Text(brief(local.name, 40), style=style), Text(kind, style="dim"), Text(brief(local.text), style=style))
    return table


def _outcome(recorded: Recorded) -> Text:
    line = Text(f"asked {moment(recorded.asked_at)}", style="dim")
    if recorded.recorded_at is None or recorded.outcome is None:
        return line.append(", given up" if recorded.abandoned else ", nothing is recorded yet")
    line.append(f", recorded after {duration(recorded.recorded_at - recorded.asked_at)}: ")
    return line.append_text(Text(_gave(recorded, 400), style="red" if recorded.outcome.failure else ""))


def _gave(recorded: Recorded, length: int) -> str:
    if recorded.outcome is None:
        return "given up" if recorded.abandoned else "open"
    failure = recorded.outcome.failure
    return brief(f"{failure.type}: {failure.message}" if failure else recorded.outcome.value or "null", length)


# ---------------------------------------------------------------- branches, forks and comparisons


def family_tree(run: RunView, family: Family) -> Tree:
    """Give a run's branches, its forks and its origin as a tree."""
    if family.origin is not None:
        tree = Tree(Text(f"#{family.origin.number} {brief(family.origin.id)}: forked at checkpoint {family.origin.node}"))
        below = tree.add(Text(f"{brief(run.task)} #{run.number}", style="bold"))
    else:
        tree = below = Tree(Text(f"{brief(run.task)} #{run.number}", style="bold"))
    at: dict[int, Tree] = {}
    for branch in family.branches:
        words = f"branch {branch.branch}"
        if branch.reason:
            cut = f" at checkpoint {branch.cut}" if branch.parent else ""
            words += f": {brief(branch.reason, 60)}{cut}, {moment(branch.created_at)}"
        at[branch.branch] = at.get(branch.parent, below).add(Text(words, style="bold" if branch.branch == run.branch else ""))
    for fork in family.forks:
        at.get(fork.branch, below).add(_fork(fork))
    return tree


def _fork(fork: ForkView) -> Text:
    state = BY_STATUS[fork.status]
    return Text.assemble((state.symbol, state.colour), f" fork #{fork.number} {brief(fork.id)} at checkpoint {fork.node}")


def comparison_table(comparison: Comparison) -> RenderableType:
    """Give two histories side by side, equal stretches folded."""
    first, second = comparison.first, comparison.second
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "",
        "",
        f"#{first.number} branch {comparison.first_branch}",
        f"#{second.number} branch {comparison.second_branch}",
    ):
        table.add_column(Text(column), no_wrap=not column)
    for is_same, rows in groupby(comparison.rows, key=lambda row: row.kind == "same"):
        members = list(rows)
        if is_same:
            nodes = str(members[0].node) if len(members) == 1 else f"{members[0].node}–{members[-1].node}"
            table.add_row(
                Text("=", style="dim"), "", Text(f"{nodes}: {counted(len(members), 'checkpoint')} the same", style="dim"), ""
            )
            continue
        for row in members:
            sign, style = SIGNS[row.kind]
            table.add_row(Text(sign, style=style), Text(str(row.node)), *_sides(row))
            for where, was, now in row.changes:
                table.add_row(
                    "",
                    "",
                    Text(f"  {visible(where)}: {visible(was) or '—'}", style="red"),
                    Text(visible(now) or "—", style="green"),
                )
    at = comparison.diverges_at
    return Group(Text("They are the same." if at is None else f"They first differ at checkpoint {at}."), table)


def _sides(row: Row) -> Iterator[Text]:
    for item in (row.first, row.second):
        yield Text("—", style="dim") if item is None else Text(f"{brief(item.ask, 60)} → {_gave(item, 80)}")
