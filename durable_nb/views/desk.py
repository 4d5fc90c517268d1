"""What the app object shows of itself: `durable.inbox` and `durable.runs.table()`; live where widgets live, else as text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from durable_nb.views.still import Still

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.views.inbox_view import InboxView
    from durable_nb.views.runs_view import RunsView


def inbox_of(durable: Durable, *, assignee: str | None = None) -> InboxView | Still:
    """Give the inbox."""
    from durable_nb.views.inbox_view import InboxView, inbox_still

    return InboxView(durable, assignee=assignee) if has_widgets() else Still(inbox_still(durable, assignee=assignee))


def runs_of(durable: Durable, **filters: Any) -> RunsView | Still:
    """Give the table of runs; the filters are those of `durable.runs.table`.

    Raises:
        InputValidationError: a status that there is not, or a time without zone. UnknownRunError: no such parent.
    """
    from durable_nb.views.runs_view import RunsView, base_query, runs_still

    query = base_query(durable, **filters)
    return RunsView(durable, query) if has_widgets() else Still(runs_still(durable, query))


def has_widgets() -> bool:
    """Whether this is the kernel of a notebook. Not so in a terminal, a script, or a test."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
