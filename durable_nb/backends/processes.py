"""`executor="process"`: local processes, each of which executes one attempt at a time, and is killed where its time is over.

They are started when they are needed and kept for the next attempt, as children of this process with a pipe each way (spawned,
never forked, and without running the notebook's or script's own main module again). Invariant: a process that ends by itself
is a failed attempt, told by its signal or exit code, whatever holds its end of the pipe open.

`Processes` may be used from any thread.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import durable_nb
from durable_nb.backends import frames
from durable_nb.backends.shipping import pack, surroundings
from durable_nb.engine.executors import Errand, Reply, Word
from durable_nb.errors import WorkerLostError

COMMAND = (sys.executable, "-P", "-c", "from durable_nb.backends.child import main; main()")
LAST_SECONDS = 1.0  # for what a process has said before it ended

Hear = Callable[[Word], None]


class Processes:
    """The local processes of an engine.

    Args:
        slots: how many; as many as there are CPUs by default.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.slots = slots or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()

    def start(self, errand: Errand, hear: Hear) -> ProcessFlight:
        """Begin an attempt in a process that is free, or a new one."""
        body, around = pack(errand), surroundings()
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is None or not child.is_alive:
            child = Child(self._gone)
            with self._lock:
                self._all.add(child)
        flight = ProcessFlight(child, errand, hear, self._free)
        child.execute(flight, frames.frame({"parcel": around}, [body]))
        return flight

    def _free(self, child: Child) -> None:
        with self._lock:
            if child in self._all:
                self._idle.append(child)

    def _gone(self, child: Child) -> None:
        with self._lock:
            self._all.discard(child)
            if child in self._idle:
                self._idle.remove(child)

    def close(self) -> None:
        """Kill every process; the next attempt gets a new one."""
        with self._lock:
            children = list(self._all)
            self._all.clear()
            self._idle.clear()
        for child in children:
            child.kill()
        for child in children:
            child.wait()


class ProcessFlight:
    """An attempt in a process."""

    def __init__(self, child: Child, errand: Errand, hear: Hear, free: Callable[[Child], None]) -> None:
        self.done: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        self.done.set_running_or_notify_cancel()  # whoever waits no longer does not take it away from whoever sets it
        self.hear = hear
        self.name = f"run {errand.claim.id} of '{errand.task.name}'"
        self._child = child
        self._free = free
        self._lock = threading.Lock()
        self._is_over = False

    def cancel(self) -> None:
        """Tell the function that its run is cancelled."""
        self._child.send(frames.frame({"cancel": True}))

    def kill(self) -> None:
        """Kill the process, unless the attempt is over."""
        if self._finish():
            self._child.kill()

    def land(self, reply: Reply) -> None:
        """Take what came of it; the process is free again."""
        if self._finish():
            self._free(self._child)
            self.done.set_result(reply)

    def lose(self, how: str) -> None:
        """Take it that the process has ended before."""
        if self._finish():
            self.done.set_exception(
                WorkerLostError(
                    f"The process that executed {self.name} {how}, so this attempt failed: native code that crashed, memory that "
                    "ran out, or something that ended it. `retries` has it tried again."
                )
            )

    def _finish(self) -> bool:
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            self._child.forget(self)
        return not was_over


class Child:
    """One process, with threads that write to it, read from it and wait for its end.

    Args:
        gone: told when it has ended.
    """

    def __init__(self, gone: Callable[[Child], None]) -> None:
        self._gone = gone
        self._flight: ProcessFlight | None = None
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,  # it dies with those that its functions have started, and no Ctrl-C of a terminal reaches it
        )
        self._threads = [
            threading.Thread(target=work, name=f"durable_nb process {self._process.pid}", daemon=True)
            for work in (self._write, self._read, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def execute(self, flight: ProcessFlight, parcel: bytes) -> None:
        """Give it an attempt."""
        self._flight = flight
        self.send(parcel)
        if not self.is_alive:
            flight.lose(self._how())

    def forget(self, flight: ProcessFlight) -> None:
        """Have no attempt any more."""
        if self._flight is flight:
            self._flight = None

    def send(self, frame: bytes) -> None:
        """Send it a frame, soon."""
        self._outbox.put(frame)

    def kill(self) -> None:
        """End it and those that it has started."""
        with contextlib.suppress(OSError):  # it has ended
            if sys.platform == "win32":
                self._process.kill()
            elif self.is_alive:
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end."""
        self._threads[2].join()

    # ------------------------------------------------------------ threads

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  it was asked for
        with contextlib.suppress(OSError, ValueError):  # it has ended
            while (frame := self._outbox.get()) is not None:
                stdin.write(frame)
                stdin.flush()
                del frame
        with contextlib.suppress(OSError):
            stdin.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  it was asked for
        with contextlib.suppress(OSError, ValueError):
            while (parts := frames.read(stdout)) is not None:
                flight = self._flight
                if flight is None:
                    continue  # it was left
                if "word" in parts[0]:
                    flight.hear(frames.word_of(*parts))
                else:
                    flight.land(frames.reply_of(*parts))
        stdout.close()

    def _watch(self) -> None:
        self._process.wait()
        self._threads[1].join(LAST_SECONDS)
        self._gone(self)
        flight = self._flight
        if flight is not None:
            flight.lose(self._how())
        self._outbox.put(None)
        self._threads[0].join(LAST_SECONDS)

    def _how(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended by itself with exit code {code}"


def environment() -> dict[str, str]:
    """Give the environment of a process, in which this very package is found first."""
    package = str(Path(durable_nb.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
