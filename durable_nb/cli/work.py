"""Serving: a process that runs tasks until it is told to stop, and waiting for a run with a limit."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from durable_nb.client import Durable
    from durable_nb.tasks.refs import RunRef

LOOK_SECONDS = 0.2  # how often the main thread looks up, so that signals are seen on every platform


def serve(durable: Durable, grace: float) -> None:
    """Run tasks until SIGTERM or SIGINT; then let running ones end for up to `grace` seconds, and give back the rest.

    A second signal stops at once; what ran is then taken up by the next worker, like after a crash.
    """
    stop = threading.Event()

    def told(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt("stopped at once; what ran is taken up by the next worker")
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with durable:
            print(f"serving {len(list(durable.tasks))} tasks on {durable.path}", file=sys.stderr)
            while not stop.wait(LOOK_SECONDS):
                if durable.engine.failure is not None:
                    raise durable.engine.failure
            print("stopping: running tasks may end, the rest goes back to the log", file=sys.stderr)
            durable.drain(grace)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def result_within(ref: RunRef[Any], seconds: float | None) -> Any:
    """Wait for a run's output, for up to so many seconds.

    Raises:
        TimeoutError: it has not ended by then; it goes on.
    """
    if seconds is None:
        return ref.result()
    done: list[Any] = []

    def wait() -> None:
        try:
            done.append((ref.result(), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds
    while not done and time.monotonic() < deadline:
        thread.join(LOOK_SECONDS)
    if not done:
        raise TimeoutError(f"Run {ref.workflow_run_id} has not ended within {seconds:g} s; it goes on with the next worker.")
    value, error = done[0]
    if error is not None:
        raise error
    return value
