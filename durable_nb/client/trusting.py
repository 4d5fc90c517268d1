"""What this user trusts: the log as a whole, by its id, and each run for which restored code is executed, by its signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable_nb.errors import InertLogError
from durable_nb.log.connection import prepare

if TYPE_CHECKING:
    from durable_nb.definitions.trust import Keyring
    from durable_nb.log.records import Claim, NewRun
    from durable_nb.tasks.task import Task


def open_log(path: Path, keyring: Keyring) -> str:
    """Create or check a log, and give its id.

    Raises:
        InertLogError: this user has neither made nor trusted it. LogError: it cannot be opened.
    """
    keyring.sign("")  # a key that cannot be read or made is said before a log is made that nobody could trust
    log_id, is_new = prepare(path)
    if is_new:
        keyring.remember(log_id, path)
    elif not keyring.knows(log_id):
        raise InertLogError(
            f"The log {path} was not made by this user, so nothing of it is executed. Look at what is in it, "
            "then say `%durable trust`, or durable.trust() in a script."
        )
    return log_id


def signature_of(keyring: Keyring, log_id: str, run: NewRun | Claim) -> bytes:
    """Sign a run: its task, its version and its input."""
    return keyring.sign(*_parts(log_id, run))


def refusal_of(keyring: Keyring, log_id: str, claim: Claim, task: Task[Any]) -> str | None:
    """Give why restored code may not be executed for a run: this user did not sign the run. Called on the engine's loop."""
    if not task.is_restored or (claim.signature is not None and keyring.verify(claim.signature, *_parts(log_id, claim))):
        return None
    return (
        f"It does not carry this user's signature, so the restored code of '{task.name}' is not executed for it: "
        f"run the cell that defines '{task.name}', then `%durable retake {claim.id}`."
    )


def _parts(log_id: str, run: NewRun | Claim) -> tuple[str, ...]:
    return ("run", log_id, run.id, run.task, run.version or "", run.input)
