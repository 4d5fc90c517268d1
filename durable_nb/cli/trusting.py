"""`trust`: seeing the code in a log that somebody else made, and taking it for one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from durable_nb.cli.held import HeldDurable
from durable_nb.cli.options import Log
from durable_nb.cli.place import Place, existing
from durable_nb.notebook import inspection

if TYPE_CHECKING:
    from durable_nb.log.definitions import StoredDefinition
    from durable_nb.notebook.extension import Extension
    from durable_nb.notebook.session import Session


class _Stand:
    """What `inspection.trust` asks of a notebook's extension, of a log without a notebook: tasks are read, and none is served."""

    def __init__(self, durable: HeldDurable) -> None:
        self.durable = durable
        self.session = durable.session
        self.shown: tuple[str, list[StoredDefinition]] | None = None

    def ready(self) -> Session:
        self.durable.open()
        return self.session

    def restore(self) -> None:
        self.session.untrusted.clear()

    def lines(self) -> list[str]:
        return [f"Trusted: {self.durable.path}"]


def trust(
    place: Place,
    yes: Annotated[bool, typer.Option("--yes", help="Trust what is shown: sign it, so that it is executed.")] = False,
    log: Log = None,
) -> None:
    """Show the code and the unfinished runs of a log that you did not make; with --yes, trust exactly that."""
    durable = HeldDurable(existing(place.path(log)), "")
    try:
        inspection.trust(cast("Extension", _Stand(durable)), is_agreed=yes)
    finally:
        durable.close()


VERBS = (trust,)
