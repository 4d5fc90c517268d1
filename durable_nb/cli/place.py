"""What verbs work on: a log that a person names, or the app object of a script.

Invariant: only `serving` executes anybody's code. Looking needs no engine, works on a log that is not trusted, and holds no
transaction; steering has an engine that claims no run.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from durable_nb.cli.outcomes import NOT_FOUND, CommandError
from durable_nb.client import DEFAULT_LOG, LOG_VARIABLE, Durable
from durable_nb.engine.dispatch import Slots
from durable_nb.log.connection import explain, open_sqlite, prepare

LOGS = "*.durable.db"


class Place(Protocol):
    """What verbs work on.

    Attributes:
        without: names of options that have no meaning here.
    """

    without: tuple[str, ...]

    def path(self, log: Path | None) -> Path:
        """Give the log that an option names, or that stands to reason; it need not be there."""
        ...

    def serving(self, log: Path | None, file: Path | None, slots: Slots | None) -> list[Durable]:
        """Give app objects with their tasks, not opened yet."""
        ...

    def steering(self, log: Path | None) -> Durable:
        """Give an app object that claims no run, not opened yet.

        Raises:
            CommandError: there is no log.
        """
        ...


class LogPlace:
    """The log that a person names; the tasks are those of a file, or those that the log holds."""

    without: tuple[str, ...] = ()

    def path(self, log: Path | None) -> Path:
        """Give the log named, else that of the environment, else the one in this folder."""
        named = log or os.environ.get(LOG_VARIABLE)
        if named:
            return Path(named).expanduser().absolute()
        here = [Path(DEFAULT_LOG)] if Path(DEFAULT_LOG).is_file() else sorted(Path().glob(LOGS))
        if len(here) > 1:
            raise CommandError(f"Several logs are here ({', '.join(map(str, here))}): name one with --log.")
        return (here[0] if here else Path(DEFAULT_LOG)).absolute()

    def serving(self, log: Path | None, file: Path | None, slots: Slots | None) -> list[Durable]:
        """Give the app object of a file; without one, those that serve what the log holds."""
        from durable_nb.cli.files import load
        from durable_nb.cli.held import hold

        if file is None:
            return hold(existing(self.path(log)), slots)
        durable = load(file)
        if log is not None or os.environ.get(LOG_VARIABLE):
            durable.path = self.path(log)
        return [prepared(durable, file, slots)]

    def steering(self, log: Path | None) -> Durable:
        """Give an app object without tasks."""
        return Durable(existing(self.path(log)))


class ScriptPlace:
    """A script's app object."""

    without: tuple[str, ...] = ("file",)

    def __init__(self, durable: Durable) -> None:
        self._durable = durable

    def path(self, log: Path | None) -> Path:
        """Give the log named, else the script's."""
        return self._durable.path if log is None else log.expanduser().absolute()

    def serving(self, log: Path | None, file: Path | None, slots: Slots | None) -> list[Durable]:
        """Give the script's app object."""
        import sys

        self._durable.path = self.path(log)
        return [prepared(self._durable, Path(sys.argv[0]), slots)]

    def steering(self, log: Path | None) -> Durable:
        """Give an app object that knows the script's tasks, so that an event finds its listeners, but executes none of them."""
        from durable_nb.cli.versions import add_versions

        add_versions(self._durable)
        durable = Durable(self.path(log), home=self._durable.home, slots=Slots(durable=0, loop=0, thread=0))
        durable.tasks = self._durable.tasks
        return durable


def prepared(durable: Durable, file: Path, slots: Slots | None) -> Durable:
    """Have an app object serve as a worker of a file, which is its home."""
    durable.home = durable.home or str(file.absolute())
    durable.slots = slots
    return durable


def existing(path: Path) -> Path:
    """Give a log's path if it is there.

    Raises:
        CommandError: it is not.
    """
    if not path.exists():
        raise CommandError(f"There is no log {path}: name one with --log, or run a task first.", NOT_FOUND)
    return path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Read a log; each statement sees a snapshot of its own, and none is held between them.

    Raises:
        CommandError: there is none. LogError: it cannot be used.
    """
    prepare(existing(path))
    with contextlib.closing(open_sqlite(path, query_only=True)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise explain(error, path) from error
