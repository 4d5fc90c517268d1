"""A worker process that serves a notebook's tasks when its kernel is gone: `%durable detach`.

The kernel hands over by closing its engine, which gives every run back to the log; the worker (`python -m` this module) restores
the notebook's signed definitions from the log, as the next kernel would. A note beside the log names the worker. Whoever removes
the note calls it off, and the notebook does that when it opens the log again.

Invariants: at most one worker serves a notebook, since the last note counts; a worker that was called off gives its runs back
before it ends, and the notebook waits for that, so that no run is executed by code that the notebook has replaced meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import sys
import time
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable_nb.client.apart import start_apart
from durable_nb.engine.draining import is_finished
from durable_nb.engine.liveness import is_alive
from durable_nb.errors import DurableError

if TYPE_CHECKING:
    from durable_nb.notebook.app import NotebookDurable

MODULE = "durable_nb.notebook.detached"
LEAVE_SECONDS = 5.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Detached:
    """A worker process that serves a notebook's tasks.

    Attributes:
        worker: its engine's id in the log. serves: the names of its tasks.
        lacks: the tasks whose runs wait for their cell, each with the reason.
        output: the file to which it writes what it has to say.
    """

    pid: int
    worker: str
    serves: list[str]
    lacks: dict[str, str]
    output: str


class Note:
    """The note beside a log that names the worker of a notebook."""

    def __init__(self, log: Path, home: str) -> None:
        digest = blake2b(home.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        self.path = log.with_name(f"{log.name}-detached-{digest}.json")
        self.output = self.path.with_suffix(".log")

    def read(self) -> dict[str, Any]:
        """Give what it says; nothing, where there is none."""
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def write(self, **said: Any) -> None:
        """Put it in the place of the one before, wholly or not at all."""
        temporary = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(said, file)
        temporary.replace(self.path)

    def remove(self) -> None:
        """Call the worker off."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


# ---------------------------------------------------------------- the kernel's side


def detach(durable: NotebookDurable) -> Detached:
    """Give the runs to a worker process that outlives this one. The next use of `durable` here takes them back.

    Raises:
        DurableError: the worker did not start; the runs wait in the log.
    """
    durable.open()
    note, token = Note(durable.path, durable.home), secrets.token_hex(8)
    note.write(token=token)
    durable.close()

    def ready(_: int) -> Detached | None:
        said = note.read()
        if said.get("token") != token or "worker" not in said:
            return None
        return Detached(**{name: said[name] for name in Detached.__dataclass_fields__})

    command = ["-m", MODULE, str(durable.path), "--home", durable.home, "--token", token]
    if (found := start_apart(command, note.output, ready)) is not None:
        return found
    note.remove()
    raise DurableError(f"The worker process did not start (see {note.output}): the runs wait in the log, and go on here.")


def call_off(log: Path, home: str) -> int | None:
    """Have the worker of a notebook give its runs back and end; give its process id, or None where there is none."""
    note = Note(log, home)
    said = note.read()
    if not said:
        return None
    note.remove()
    ends_at = time.monotonic() + LEAVE_SECONDS
    while time.monotonic() < ends_at and isinstance(said.get("worker"), str) and is_alive(log, said["worker"]):
        time.sleep(LOOK_SECONDS / 4)
    return said["pid"] if isinstance(said.get("pid"), int) else None


# ---------------------------------------------------------------- the worker's side


def serve(log: Path, home: str, token: str) -> str:
    """Serve a notebook's tasks until it is called off or nothing is left to do; give which."""
    from durable_nb.notebook.app import NotebookDurable
    from durable_nb.notebook.output import OUTPUT
    from durable_nb.notebook.session import Session

    note, durable = Note(log, home), NotebookDurable(log, home)
    durable.is_detached = True
    if note.read().get("token") != token:
        return "it was called off before it began"
    OUTPUT.install()
    try:
        session = Session(durable)
        durable.open()
        session.restore()
        served = sorted(task.name for task in durable.tasks)
        lacks = {**session.unrestorable, **dict.fromkeys(session.untrusted, "its definition is not signed by you")}
        lacks |= {name: f"it waits for {', '.join(others)}" for name, others in session.held().items()}
        found = Detached(pid=os.getpid(), worker=durable.engine.worker, serves=served, lacks=lacks, output=str(note.output))
        if note.read().get("token") == token:
            note.write(token=token, **asdict(found))
        print(f"{_now()} process {found.pid} serves {', '.join(served) or 'nothing'}", flush=True)
        while True:
            if note.read().get("token") != token:
                return "the notebook took its runs back"
            if durable.call(lambda: is_finished(durable.engine), aio=""):
                return "nothing is left to do"
            time.sleep(LOOK_SECONDS)
    finally:
        durable.close()
        OUTPUT.remove()


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def main() -> None:
    """Serve what the command line names."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Serve the tasks of a notebook from its log.")
    parser.add_argument("log", type=Path)
    parser.add_argument("--home", default="", help="the notebook's path, as the log has it")
    parser.add_argument("--token", required=True, help="what the note beside the log says")
    given = parser.parse_args()
    try:
        reason = serve(given.log, given.home, given.token)
    except DurableError as error:
        sys.exit(f"{_now()} process {os.getpid()} ends: {error}")
    print(f"{_now()} process {os.getpid()} ends: {reason}", flush=True)


if __name__ == "__main__":
    main()
