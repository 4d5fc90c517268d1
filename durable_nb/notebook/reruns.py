"""Restart & Run All starts nothing twice.

A cell that starts a run for the first time in a fresh kernel takes up the run that it started last with the same input; executing
it again starts a new one, since that is what a person does who wants one. Which cell it is, the frontend says by the cell's id;
where it does not (nbclient, papermill), the cell's text stands for it. A terminal has no cells: there, every run is a new one.

Invariant: what a cell started is found by the key of the run in the log, so it holds across kernels and needs no memory of ours.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from durable_nb.errors import DurableError
from durable_nb.log import reads
from durable_nb.log.records import CELL_KEY
from durable_nb.tasks.payload import encode

if TYPE_CHECKING:
    from durable_nb.notebook.session import Session


@dataclass
class Execution:
    """One execution of a cell: whether it is the cell's first in this kernel, and what it has started so far."""

    cell: str
    is_first: bool
    started: Counter[str] = field(default_factory=Counter)


class Reruns:
    """The cells that this kernel has executed."""

    def __init__(self) -> None:
        self._executed: set[str] = set()
        self._now: Execution | None = None

    def begin(self, cell_id: str | None, source: str, *, is_kernel: bool) -> None:
        """Be told that a cell is about to be executed."""
        cell = f"id {cell_id}" if cell_id else f"text {source}" if is_kernel else None
        self._now = None if cell is None else Execution(cell, cell not in self._executed)
        if cell is not None:
            self._executed.add(cell)

    def key_for(self, session: Session, task: str, value: object) -> tuple[str | None, bool]:
        """Give the key of the run that the cell means, and whether the log has that run already; None for any new run."""
        if self._now is None:
            return None, False
        try:
            given = encode(value, of="the input")
        except DurableError:
            return None, False  # starting the run says what is wrong with it
        parts = [session.durable.home, self._now.cell, task, given]
        digest = blake2b(json.dumps(parts).encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
        self._now.started[digest] += 1
        prefix = f"{CELL_KEY}{digest}:{self._now.started[digest]}:"
        last: str | None = session.read(lambda connection: reads.last_key(connection, prefix))
        if last is not None and self._now.is_first:
            return last, True
        return f"{prefix}{1 + int(last.rpartition(':')[2]) if last else 1:08}", False


def said(run: Any, word: str) -> str:
    """Give the sentence for a run that was taken up."""
    return f"This cell started run {run} before with this input; it is {word}. Run the cell again for a new one."
