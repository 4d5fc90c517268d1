"""A process of `Processes`: executes one attempt after another in its main thread, until it is killed or its engine is gone.

Its standard input and output are the line to the engine; functions get other ones, so that nothing they print breaks it. At the
end of its input the engine is dead, and so are, at once, this process and those that it has started.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from typing import IO

from durable_nb.backends import elsewhere, frames
from durable_nb.backends.elsewhere import Attempt
from durable_nb.backends.shipping import settle_in
from durable_nb.engine.executors import Word


class Line:
    """The line to the engine."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source = source
        self._target = target
        self._lock = threading.Lock()
        self._attempt: Attempt | None = None
        self._parcels: queue.SimpleQueue[frames.Parts] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="durable_nb line", daemon=True).start()

    def _listen(self) -> None:
        while (parts := frames.read(self._source)) is not None:
            if "parcel" in parts[0]:
                self._parcels.put(parts)
            elif self._attempt is not None:
                self._attempt.cancel()
        _end()

    def _say(self, parts: frames.Parts) -> None:
        text = frames.frame(*parts)
        try:
            with self._lock:
                self._target.write(text)
                self._target.flush()
        except OSError:
            _end()

    def _speak(self, word: Word) -> None:
        self._say(frames.parts_of_word(word))

    def work(self) -> None:
        """Execute what comes."""
        while True:
            header, [body] = self._parcels.get()
            settle_in(header["parcel"])
            self._attempt = attempt = Attempt(self._speak)
            reply = attempt.execute(body)
            self._attempt = None
            sys.stdout.flush()
            self._say(frames.parts_of_reply(reply))
            del header, body, reply


def _end() -> None:
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with those that its functions have started
    os._exit(1)


def main() -> None:
    """Take the line, give functions other standard streams, and work."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the kernel that is interrupted, which then says what becomes of runs
    elsewhere.install()
    Line(source, target).work()
