"""What a log holds: the tasks of notebooks, restored from their signed definitions, each notebook's for its own runs.

Invariant: nothing is restored that this user has not signed, and a log that the user does not know is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from durable_nb.cli.outcomes import NOT_FOUND, CommandError
from durable_nb.cli.place import reading
from durable_nb.log import definitions as stored
from durable_nb.notebook.app import NotebookDurable
from durable_nb.notebook.session import Session
from durable_nb.views.words import brief

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.engine.dispatch import Slots


class HeldDurable(NotebookDurable):
    """The app object of a notebook that is not open; its tasks come from the log when it is opened.

    Attributes:
        session: its tasks, and why others are not among them.
    """

    mutes_prints = True  # no notebook does it here

    def __init__(self, log: Path, home: str) -> None:
        super().__init__(log, home)
        self.is_detached = True  # the notebook's own worker, if there is one, goes on beside this one
        self.session = Session(self)

    def restore(self) -> None:
        """Open the log, and serve what can be restored from it."""
        self.open()
        self.session.restore()

    def lacking(self) -> list[str]:
        """Say of each task that is not served why."""
        lines = [f"{brief(name)} is not signed by you: see `%durable trust`." for name in self.session.untrusted]
        lines += [f"{brief(name)} is not restored: {brief(why, 400)}" for name, why in self.session.unrestorable.items()]
        lines += [
            f"{brief(name)} waits for the definition of {', '.join(map(brief, others))}."
            for name, others in self.session.held().items()
        ]
        return lines


def hold(log: Path, slots: Slots | None, home: str | None = None) -> list[Durable]:
    """Give an app object for every notebook whose definitions are in the log, or for one of them.

    Raises:
        CommandError: the log holds no definition.
    """
    with reading(log) as connection:
        homes = sorted({row.home for row in stored.list_newest(connection, home)})
    if not homes:
        raise CommandError(f"The log {log} holds no task: name a script or notebook that defines them.", NOT_FOUND)
    found: list[Durable] = []
    for name in homes:
        durable = HeldDurable(log, name)
        durable.slots = slots
        found.append(durable)
    return found
