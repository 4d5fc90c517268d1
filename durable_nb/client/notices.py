"""Telling somebody of new questions: `durable.inbox.notify`.

Invariants: each notifier has a thread and a short-lived read of its own, so the engine never waits for a hook; a question is told
once in a process, whichever process asked it; a hook that fails is told in a warning, and the next question is told all the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from durable_nb.errors import ArgumentError
from durable_nb.log import questions
from durable_nb.log.connection import open_sqlite
from durable_nb.log.questions import InboxItem, Spot

if TYPE_CHECKING:
    from durable_nb.client.app import Durable

Hook = Callable[[InboxItem], object] | Sequence[str]
LOOK_SECONDS = 0.3
COMMAND_SECONDS = 60.0
WORDS = 2000  # characters of a question in an environment variable; all of it is on the standard input

logger = logging.getLogger("durable_nb")


class Notifier:
    """Calls a hook with each question that is asked after it was made. See `durable.inbox.notify`."""

    def __init__(self, durable: Durable, hook: Hook) -> None:
        self._tell = _teller(hook)
        self._durable = durable
        self._seen: set[Spot] = set()
        self._version = -1
        self._stopped = threading.Event()
        durable.open()
        with contextlib.closing(open_sqlite(durable.path, query_only=True)) as connection:
            self._seen = questions.open_spots(connection)
        threading.Thread(target=self._work, name="durable_nb notices", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Notifier {'stopped' if self._stopped.is_set() else 'telling'}: .stop() ends it>"

    def stop(self) -> None:
        """Tell of nothing more, but for what is being told."""
        self._stopped.set()

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                if self._durable.is_open:
                    connection = connection or open_sqlite(self._durable.path, query_only=True)
                    for item in self._new(connection):
                        self._tell_of(item)
                    continue
            except (sqlite3.Error, OSError) as error:
                logger.warning("The log could not be read for new questions, it is tried again: %s", error)
                self._stopped.wait(COMMAND_SECONDS)
            if connection is not None:
                connection.close()
                connection, self._version = None, -1
        if connection is not None:
            connection.close()

    def _new(self, connection: sqlite3.Connection) -> list[InboxItem]:
        """Read what was asked since the last look; nothing, if nobody has written."""
        version = int(connection.execute("PRAGMA data_version").fetchone()[0])
        if version == self._version:
            return []
        self._version = version
        spots = questions.open_spots(connection)
        new, self._seen = sorted(spots - self._seen), spots
        now = self._durable.engine.clock.now()
        found = (questions.at(connection, spot, now=now) for spot in new)
        return [item for item in found if item is not None and item.status == "open"]

    def _tell_of(self, item: InboxItem) -> None:
        if self._stopped.is_set():
            return
        try:
            self._tell(item)
        except Exception as error:  # a hook is foreign code, whose failure must not end the telling
            logger.warning("Question %s: the notify hook failed: %s: %s", item.id, type(error).__name__, error)


def _teller(hook: Hook) -> Callable[[InboxItem], object]:
    if callable(hook):
        return hook
    command = list(hook) if isinstance(hook, list | tuple) else []
    if not command or not all(isinstance(part, str) for part in command):
        raise ArgumentError(f"notify({hook!r}): give a function of one argument, or a command as a list such as ['say', 'Ada?'].")
    return lambda item: _run(command, item)


def _run(command: Sequence[str], item: InboxItem) -> None:
    """Run a command with a question on its standard input and in its environment.

    Raises:
        RuntimeError: it failed; OSError: it cannot be started; subprocess.TimeoutExpired: it took too long.
    """
    data = json.dumps(asdict(item), default=str)
    variables = {
        "DURABLE_NB_QUESTION": item.question,
        "DURABLE_NB_QUESTION_ID": item.id,
        "DURABLE_NB_TASK": item.task,
        "DURABLE_NB_RUN": item.run_id,
        "DURABLE_NB_ASSIGNEES": ", ".join(item.assignees),
    }
    plain = {name: value.replace("\0", "\ufffd")[:WORDS] for name, value in variables.items()}
    done = subprocess.run(
        list(command),
        input=data.encode(),
        env=os.environ | plain,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-400:]
        raise RuntimeError(f"the command ended with {done.returncode}" + (f": {said}" if said else ""))
