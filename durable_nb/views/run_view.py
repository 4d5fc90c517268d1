"""The live view of one run, in a page: its head, its graph, its timeline, its replay and its log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from durable_nb.errors import UnknownQuestionError
from durable_nb.log import questions
from durable_nb.views import web
from durable_nb.views.asking import answer_actions, question_item
from durable_nb.views.detail import detail_of
from durable_nb.views.panels import panel_of
from durable_nb.views.replaying import Replaying
from durable_nb.views.shown import Shown, kernel_shell
from durable_nb.views.sources import RunSource
from durable_nb.views.text import plain, run_summary
from durable_nb.views.widget import Action, View

if TYPE_CHECKING:
    from durable_nb.client import Durable

TABS = ("graph", "timeline", "replay", "log")


class RunView(View):
    """A run as it happens.

    Attributes:
        tab: the tab that is shown, ``"graph"``, ``"timeline"``, ``"replay"`` or ``"log"``; kept for whoever draws the view again.

    Example:
        >>> RunView(durable, "01K…")  # doctest: +SKIP
    """

    _esm = web.module("run.mjs")
    _css = web.styles("run.css", "forms.css", "graph.css", "timeline.css", "replay.css")
    tab = traitlets.Unicode("graph").tag(sync=True)

    def __init__(self, durable: Durable, run: str, *, tab: str = "graph") -> None:
        self.run = run
        source = RunSource(run)
        self._run_source = source
        self.shown: list[Shown] = []
        super().__init__(durable, source)
        self._replaying = Replaying(durable, run, self.read)
        self.tab = tab

    def _ipython_display_(self) -> None:
        """Show it in the running cell of a kernel, with a still picture for when it is gone."""
        shell = kernel_shell()
        if shell is None:
            raise NotImplementedError  # by which IPython knows that the text is to be shown
        Shown(self, self._durable, shell)

    def __repr__(self) -> str:
        return self.read(lambda connection: plain(run_summary(detail_of(connection, self.run, now=time.time()))))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:  # type: ignore[override]
        return {"text/plain": repr(self)}

    def actions(self) -> Mapping[str, Action]:
        """Give what a person can do with the run."""
        return {
            "expand": self._expand,
            "unfold": self._unfold,
            "panel": self._panel,
            "cancel": self._cancel,
            "question": self._question,
            **answer_actions(self._durable),
            **self._replaying.actions(),
        }

    def _expand(self, *, run: int, is_open: bool) -> None:
        self._run_source.expand(int(run), bool(is_open))
        self.look()

    def _unfold(self, *, group: str, page: int | None) -> None:
        self._run_source.unfold(str(group), page if page is None else max(0, int(page)))
        self.look()

    def _panel(self, *, number: int) -> dict[str, Any]:
        return self.read(lambda connection: panel_of(connection, int(number)))

    def _cancel(self) -> bool:
        return self._durable.runs.cancel(self.run, reason="cancelled in the run's view")

    def _question(self, *, run: int, branch: int, node: int) -> dict[str, Any]:
        found = self.read(lambda connection: questions.at(connection, (int(run), int(branch), int(node)), now=time.time()))
        if found is None or found.status != "open":
            raise UnknownQuestionError("This is not asked any more.")
        return question_item(found)
