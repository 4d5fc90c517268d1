"""What the view of a run reads: the run, its children as far as they are shown, its waits, checkpoints and lines.

The items, by key: `run`; `n/NUMBER` a run as a node; `g/PARENT/K` a folded group, `d/PARENT/K` its course over time; `w/RUN/PLACE` a wait;
`plan/RUN` a workflow's graph; `t/K` checkpoints; `journey` when it was entered and left; `l/SEQ` a line of its log.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

from durable_nb.log import lines, live, reads
from durable_nb.log.records import CELL_KEY
from durable_nb.views.dags import placed
from durable_nb.views.families import Family, node_item, state_name
from durable_nb.views.feed import Items
from durable_nb.views.histories import History
from durable_nb.views.words import brief, visible

LINES = 400  # of the log that are sent


class RunSource:
    """Reads for the view of one run. `read` is called on the feed's thread, the rest on any."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._number: int | None = None
        self._families: dict[int, Family] = {}
        self._histories: dict[int, History] = {}
        self._journal = 0
        self._lines: dict[str, list[Any]] = {}
        self._last_line = 0

    # ------------------------------------------------------------ what is shown

    def expand(self, number: int, is_open: bool) -> None:
        """Show a run's own children and waits below it, or no more."""
        with self._lock:
            if is_open:
                self._families.setdefault(number, Family(number))
                self._histories.setdefault(number, History(number))
            elif number != self._number:
                self._families.pop(number, None)
                self._histories.pop(number, None)

    def unfold(self, group: str, page: int | None) -> None:
        """Show a page of a folded group, or None of it."""
        with self._lock:
            family = self._families.get(int(group.partition("/")[0]))
            found = family and family.group(group)
            if found:
                found.page = page

    # ------------------------------------------------------------ reading

    def read(self, connection: sqlite3.Connection) -> Items:
        """Give all items."""
        with self._lock:
            return self._read(connection)

    def _read(self, connection: sqlite3.Connection) -> Items:
        if self._number is None:
            self._number = reads.find_run(connection, self.run).number
            self._families[self._number] = Family(self._number)
            self._histories[self._number] = History(self._number)
        end = live.journal_end(connection)
        changed = live.changed_runs(connection, self._journal, end) if self._journal else set()
        self._journal = end
        items: dict[str, Any] = {}
        shown: list[int] = []
        branches = live.current_branches(connection, self._histories)
        for number, history in self._histories.items():
            if number in branches:
                history.look(connection, branch=branches[number], is_changed=number in changed)
        for number, family in self._families.items():
            family.keeps_all = self._histories[number].plan is not None
            family.look(connection, changed)
            shown += family.shown()
        counts = live.child_counts(connection, shown)
        for number, family in self._families.items():
            items.update(family.items(counts))
            items.update(self._histories[number].wait_items())
            plan = self._histories[number].plan
            if plan is not None:
                items[f"plan/{number}"] = placed(plan)
        root = self._number
        for key in [key for key in items if key.startswith("n/")]:
            items[key]["open"] = items[key]["number"] in self._families
        items.update(self._families[root].courses())
        items.update(self._histories[root].chunks())
        items["journey"] = self._histories[root].journey
        items["run"] = self._run_item(connection, root)
        items.update(self._line_items(connection, root))
        return items

    def _run_item(self, connection: sqlite3.Connection, number: int) -> dict[str, Any]:
        row = live.runs_of(connection, [number])[0]
        view = live.run_facts(connection, number)
        family, history = self._families[number], self._histories[number]
        is_key_given = view.key is not None and not view.key.startswith(CELL_KEY)
        return {
            **node_item(row, state_name(row, waits=bool(history.waits))),
            "children": len(family),
            "checkpoints": len(history),
            "invocations": view.invocation_count,
            "name": brief(view.key or "", 60) if is_key_given else "",
            "reason": brief(view.blocked_reason or "", 600),
            "failure": brief(f"{row.error_type}: {row.error_message}", 400) if row.error_type else "",
            "branch": view.branch,
            "lines": lines.count_lines(connection, number),
        }

    def _line_items(self, connection: sqlite3.Connection, number: int) -> dict[str, list[Any]]:
        for seq, at, attempt, level, line, text in live.new_lines(connection, number, self._last_line, limit=LINES):
            self._lines[f"l/{seq}"] = [at, attempt, brief(level, 20), line, visible(text, lines=True)]
            self._last_line = seq
        for key in list(self._lines)[: max(0, len(self._lines) - LINES)]:
            del self._lines[key]
        return self._lines
