"""`durable.executor("dask", address)`: regular tasks on the workers of a Dask cluster; the log and its engine stay here.

Dask's scheduler decides where and when an attempt executes, by the task's `resources`. What the attempt says comes back over
Dask's event topics, counted, so that its last word is heard before its end is. A worker that dies has its attempts executed
again by Dask, on another one, as after any crash, with no retry used up; where that happens too often
(`distributed.scheduler.allowed-failures`), or the cluster is gone, the attempt has failed.

Limits: a thread of a worker cannot be killed, so a function that is over its time, or cancelled and out of its grace, goes on
there unheard until it ends; one that is cancelled sees `ctx.is_cancelled`, and an async one has CancelledError raised.

`Dask` and `DaskFlight` may be used from any thread; `execute` and `cancel` are what a worker runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

from durable_nb.backends import elsewhere, frames
from durable_nb.backends.elsewhere import Attempt
from durable_nb.backends.shipping import pack
from durable_nb.engine.executors import Errand, Reply, Word
from durable_nb.errors import ExecutorError, WorkerLostError

SLOTS = 1000  # Dask's own scheduler puts them in order
CONNECT_SECONDS = 10.0
LAST_SECONDS = 5.0  # for words that are still on their way when the result is there already

Hear = Callable[[Word], None]
_attempts: dict[str, Attempt] = {}  # those that execute in this process, by flight


class Dask:
    """The workers of a Dask cluster.

    Args:
        address: of the scheduler, or a `distributed.Client`, which stays its owner's.

    Raises:
        ExecutorError: Dask is not installed, or no address was given.
    """

    def __init__(self, address: Any, slots: int | None = None) -> None:
        try:
            import distributed
        except ImportError:
            raise ExecutorError("Dask is not installed here: `pip install 'durable_nb[dask]'`.") from None
        self._given: Any = address if isinstance(address, distributed.Client) else None
        if self._given is None and (not isinstance(address, str) or not address):
            raise ExecutorError(f"address={address!r}: give a scheduler's address, such as 'tcp://host:8786', or a Client.")
        self.slots = slots or SLOTS
        self._address = address
        self._lock = threading.Lock()
        self._client: Any = None
        self._topic = ""
        self._flights: dict[str, DaskFlight] = {}

    def start(self, errand: Errand, hear: Hear) -> DaskFlight:
        """Begin an attempt on the cluster."""
        body = pack(errand)
        client = self._connected()
        flight = DaskFlight(client, errand, hear, lambda name: self._flights.pop(name, None))
        self._flights[flight.id] = flight
        flight.take_off(
            client.submit(
                execute,
                body,
                flight.id,
                self._topic,
                _here(),
                key=f"{errand.task.name}-{errand.claim.id}-{flight.id}",
                pure=False,
                retries=0,
                resources=dict(errand.task.options.resources) or None,
            )
        )
        return flight

    def close(self) -> None:
        """Leave the cluster; what executes there is given up."""
        with self._lock:
            client, self._client = self._client, None
        for flight in list(self._flights.values()):
            flight.kill()
        if client is not None:
            with contextlib.suppress(Exception):  # it may be gone
                client.unsubscribe_topic(self._topic)
            if client is not self._given:
                client.close(timeout=LAST_SECONDS)

    def _connected(self) -> Any:
        import distributed

        with self._lock:
            if self._client is None or self._client.status != "running":
                try:
                    make: Any = distributed.Client
                    client = self._given or make(self._address, set_as_default=False, timeout=CONNECT_SECONDS)
                    topic = f"durable_nb-{uuid.uuid4().hex}"
                    client.subscribe_topic(topic, self._hear)
                except (OSError, TimeoutError, ValueError, RuntimeError) as error:
                    raise WorkerLostError(
                        f"No Dask scheduler answers at {self._address} ({error}), so this attempt failed: `retries` has it tried "
                        "again."
                    ) from None
                self._client, self._topic = client, topic
            return self._client

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take what a worker says. On the client's own thread."""
        message = event[1]
        flight = self._flights.get(message["flight"])
        if flight is not None:
            flight.take(message)


class DaskFlight:
    """An attempt on a cluster."""

    def __init__(self, client: Any, errand: Errand, hear: Hear, forget: Callable[[str], object]) -> None:
        self.id = uuid.uuid4().hex
        self.done: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        self.done.set_running_or_notify_cancel()
        self._name = f"run {errand.claim.id} of '{errand.task.name}'"
        self._client = client
        self._hear = hear
        self._forget = forget
        self._heard = threading.Condition()
        self._count = 0
        self._worker = ""
        self._future: Any = None
        self._is_over = False

    def take_off(self, future: Any) -> None:
        """Be given the cluster's future of it."""
        self._future = future
        future.add_done_callback(self._land)

    def take(self, message: dict[str, Any]) -> None:
        """Take a word."""
        with self._heard:
            if self._worker and message["worker"] != self._worker:
                text = f"its worker {self._worker} was lost: Dask executes this attempt again, on {message['worker']}"
                self._hear(Word("said", {"what": text, "level": "WARNING"}))
                self._count = 0
            self._worker = message["worker"]
            self._count += 1
            if not self._is_over:
                self._hear(frames.word_of(message["header"], message["blobs"]))
            self._heard.notify_all()

    def cancel(self) -> None:
        """Tell the function that its run is cancelled; one that waits for a place on the cluster ends at once."""
        with self._heard:
            worker = self._worker
        if worker:
            self._tell(worker)
        elif self._finish():
            self._future.cancel()
            self.done.set_exception(asyncio.CancelledError())

    def kill(self) -> None:
        """Have it not executed, if it was not begun; else tell it, and hear no more of it."""
        if self._finish():
            if self._worker:
                self._tell(self._worker)
            threading.Thread(target=self._future.cancel, name="durable_nb dask", daemon=True).start()

    def _tell(self, worker: str) -> None:
        def tell() -> None:
            with contextlib.suppress(Exception):  # the worker, or the whole cluster, may be gone
                self._client.run(cancel, self.id, workers=[worker], on_error="ignore")

        threading.Thread(target=tell, name="durable_nb dask", daemon=True).start()

    def _finish(self) -> bool:
        with self._heard:
            was_over, self._is_over = self._is_over, True
        self._forget(self.id)
        return not was_over

    def _land(self, future: Any) -> None:
        """Take what came of it. On a thread of Dask's."""
        try:
            if future.status != "finished":
                raise WorkerLostError(
                    f"{future.status}: {future.exception(timeout=0) if future.status == 'error' else 'given up'}"
                )
            header, blobs, count = future.result(timeout=None)
            with self._heard:
                self._heard.wait_for(lambda: self._count >= count or self._is_over, LAST_SECONDS)
            reply = frames.reply_of(header, blobs)
        except BaseException as error:  # whatever Dask, or the network, raises
            if self._finish():
                self.done.set_exception(
                    WorkerLostError(
                        f"The Dask cluster lost {self._name} ({type(error).__name__}: {error}), so this attempt failed: its "
                        "workers died, or the scheduler did. `retries` has it tried again."
                    )
                )
            return
        if self._finish():
            self.done.set_result(reply)


# ---------------------------------------------------------------- on a worker


def _here() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def execute(body: bytes, flight: str, topic: str, origin: tuple[str, int]) -> tuple[dict[str, Any], list[bytes], int]:
    """Execute a parcel on a Dask worker; give header and byte strings of the reply, and how many words were said."""
    from distributed import get_worker

    worker, said, lock = get_worker(), 0, threading.Lock()
    if tuple(origin) != _here():  # in the engine's own process everything that is printed goes its way already
        elsewhere.install()

    def speak(word: Word) -> None:
        nonlocal said
        header, blobs = frames.parts_of_word(word)
        with lock:
            said += 1
            worker.log_event(topic, {"flight": flight, "worker": worker.address, "header": header, "blobs": blobs})

    _attempts[flight] = attempt = Attempt(speak)
    try:
        header, blobs = frames.parts_of_reply(attempt.execute(body))
    finally:
        del _attempts[flight]
    with lock:
        return header, blobs, said


def cancel(flight: str) -> None:
    """Tell an attempt that executes in this process that its run is cancelled."""
    attempt = _attempts.get(flight)
    if attempt is not None:
        attempt.cancel()
