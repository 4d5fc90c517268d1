"""`worker`: a process that runs tasks until it is told to stop."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from durable_nb.cli.held import HeldDurable
from durable_nb.cli.options import Log
from durable_nb.cli.outcomes import NO_LOG, CommandError
from durable_nb.cli.place import Place
from durable_nb.cli.stopping import Stop
from durable_nb.cli.versions import add_versions, keep
from durable_nb.client.apart import start_apart
from durable_nb.engine.dispatch import Slots
from durable_nb.engine.draining import drain, is_done, is_idle
from durable_nb.errors import DurableError
from durable_nb.views.words import brief, counted, visible

if TYPE_CHECKING:
    from durable_nb.client import Durable

GRACE_SECONDS = 10.0
SERVING = "serving "  # with which a worker says that it has begun
CALM = 3  # looks in a row that find nothing to do


def worker(
    place: Place,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The script or notebook; else what the log holds of notebooks, signed by you."),
    ] = None,
    log: Log = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Regular tasks at once: so many async ones, and so many in threads.")
    ] = None,
    durable_slots: Annotated[
        int | None, typer.Option(min=1, help="Durable tasks in memory at once; the others wait in the log.")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing is left to do now; what sleeps or waits stays.")
    ] = False,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End when every run of the tasks has ended, or is parked.")
    ] = False,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long running tasks may go on after a signal.")
    ] = GRACE_SECONDS,
    detached: Annotated[
        bool, typer.Option("--detached", help="Go on in the background, without this terminal; print the process id.")
    ] = False,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C: then evict what waits, let running tasks end, and give the rest back to the log.

    A second signal ends the process at once; another worker takes up its runs within two seconds, as after a crash. Several
    workers may serve one log.
    """
    if detached:
        options = {"--concurrency": concurrency, "--durable-slots": durable_slots, "--grace": grace}
        words = [f"{name}={value}" for name, value in options.items() if value is not None]
        print(_start_apart(place.path(log), file, words + ["--until-idle"] * until_idle + ["--until-done"] * until_done))
        return
    default = Slots()
    slots = Slots(
        durable=durable_slots or default.durable, loop=concurrency or default.loop, thread=concurrency or default.thread
    )
    serve(place.serving(log, file, slots), grace, until_idle=until_idle, until_done=until_done)


def _start_apart(log: Path, file: Path | None, options: Sequence[str]) -> int:
    """Start a worker in the background; give its process id once it serves.

    Raises:
        CommandError: it ended at once; the message is what it said.
    """
    said = log.with_name(f"{log.name}-worker.txt")
    begin = said.stat().st_size if said.exists() else 0

    def text() -> str:
        return said.read_bytes()[begin:].decode(errors="replace")

    def ready(pid: int) -> int | None:
        return pid if any(line.startswith(SERVING) for line in text().splitlines()) else None

    command = ["-m", "durable_nb.cli", "worker", *([str(file)] if file else []), "--log", str(log), *options]
    if (pid := start_apart(command, said, ready)) is None:
        raise CommandError(text().strip() or f"The worker did not begin to serve; {said} may tell why.", NO_LOG)
    return pid


def serve(durables: Sequence[Durable], grace: float, *, until_idle: bool = False, until_done: bool = False) -> None:
    """Run the tasks of app objects until a signal comes, or nothing is left to do; then drain and close them.

    Raises:
        LogFailedError: an engine stopped. LifespanError: a lifespan failed, so that nothing can be executed.
    """
    with Stop() as stop, opened(durables) as here:
        _say_what(here)
        calm = 0
        while not stop.wait() and calm < CALM:
            is_over = until_idle or until_done
            for durable in here:
                if durable.engine.failure is not None:
                    raise durable.engine.failure
                durable.engine.lifespan.refuse_failed()
                is_over = is_over and _is_over(durable, until_idle=until_idle)
            calm = calm + 1 if is_over else 0
        if stop.signal:
            print(f"Stopping: running tasks have {grace:g} s, the rest goes back to the log.", file=sys.stderr, flush=True)
        left = _drain(here, grace)
        if left:
            print(f"{counted(left, 'run')} still worked and went back to the log.", file=sys.stderr)


@contextmanager
def opened(durables: Sequence[Durable]) -> Iterator[list[Durable]]:
    """Open app objects, restoring what the log holds of their tasks; close them again."""
    with ExitStack() as stack:
        for durable in durables:
            stack.callback(durable.close)
            if isinstance(durable, HeldDurable):
                durable.restore()
            else:
                definitions = add_versions(durable)
                keep(durable.open(), definitions)
        yield list(durables)


def _say_what(durables: Sequence[Durable]) -> None:
    for durable in durables:
        names = ", ".join(brief(task.name, 60) for task in durable.tasks) or "no task"
        print(f"{SERVING}{names} on {visible(str(durable.path))}", file=sys.stderr, flush=True)
        for line in durable.lacking() if isinstance(durable, HeldDurable) else ():
            print(line, file=sys.stderr, flush=True)


def _is_over(durable: Durable, *, until_idle: bool) -> bool:
    engine = durable.engine
    return bool(durable.call(lambda: is_idle(engine) if until_idle else is_done(engine), aio=""))


def _drain(durables: Sequence[Durable], grace: float) -> int:
    """Drain app objects at the same time; give how many runs still work."""
    engines = [durable.engine for durable in durables]
    drains = [engine.thread.submit(lambda engine=engine: drain(engine, grace)) for engine in engines]  # type: ignore[misc]
    while concurrent.futures.wait(drains, timeout=0.1).not_done:  # looks up, so that a second signal is seen
        pass
    return sum(done.result() for done in drains if not isinstance(done.exception(), DurableError))


VERBS = (worker,)
