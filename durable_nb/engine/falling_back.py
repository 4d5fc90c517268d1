"""Back to the code before: what becomes of a run that was given new code and then diverges on entering it.

The check of an edit replays a run's history, and the run is entered later; code that depends on a file or the clock may ask
otherwise then. Invariant: no run is parked merely since a cell was run again. Lives on the engine's loop.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from durable_nb.log import runs, versions

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.errors import NonDeterminismError
    from durable_nb.log.records import Claim


async def fall_back(engine: Engine, claim: Claim, divergence: NonDeterminismError, *, worked: float) -> bool:
    """Give a run the code that it had before, where that is here; give whether it goes on with it."""
    former = await engine.reader.run(lambda connection: versions.former_version(connection, claim.number, claim.version))
    if former is None or not engine.registry.has(claim.task, former):
        return False
    signature = engine.sign(replace(claim, version=former))

    def work(connection: sqlite3.Connection) -> None:
        at = engine.clock.now()
        versions.move_back(connection, claim, former, signature, at=at)
        reason = f"it diverged on entering version {claim.version}"
        runs.release(connection, claim.number, claim.epoch, reason=reason, worked=worked, at=at)

    await engine.writer.submit(work)
    engine.warn(f"Run {claim.id} of '{claim.task}' goes on with the code that it had before its cell was run again: {divergence}")
    engine.dispatcher.look()
    return True
