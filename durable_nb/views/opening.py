"""Opening a run from another view: the inbox and the table of runs show the run's own live view below them.

The page asks for it by ``open_run``, is given the id of the new view's model, and has its widget manager draw it; by
``close_run`` it says that it is not looked at any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from durable_nb.views.run_view import RunView
from durable_nb.views.widget import Action

if TYPE_CHECKING:
    from durable_nb.client import Durable


class Opening:
    """The runs that are open in one view, each drawing's own. Its actions are called on the views' thread only."""

    def __init__(self, durable: Durable) -> None:
        self._durable = durable
        self._opened: dict[str, RunView] = {}

    def actions(self) -> Mapping[str, Action]:
        """Open a run; close one."""
        return {"open_run": self._open, "close_run": self._close}

    def _open(self, *, run: str) -> str:
        view = RunView(self._durable, self._durable.runs.get(run).id)
        model = str(view.model_id)
        self._opened[model] = view
        return model

    def _close(self, *, model: str) -> None:
        if (view := self._opened.pop(model, None)) is not None:
            view.close()
