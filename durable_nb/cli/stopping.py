"""Being told to stop: the first signal asks for a good end, the second ends the process at once.

That is safe at any moment: what the log has acknowledged is on the disk, and another worker takes up the rest within two seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from types import FrameType

LOOK_SECONDS = 0.1  # how often the main thread looks up, so that signals are seen on every platform
SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")  # Windows knows SIGBREAK (its Ctrl-Break) and no SIGHUP


class Stop:
    """While it is entered, a signal is taken down; a second one ends the process. To be used on the main thread.

    Attributes:
        signal: the number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        for name in SIGNALS:
            if (number := getattr(signal, name, None)) is not None:
                self._before[number] = signal.signal(number, self._tell)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _tell(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
                os.write(sys.stderr.fileno(), b"Stopped at once; what ran is taken up by the next worker.\n")
            os._exit(128 + number)
        self.signal = number  # and nothing else: the main thread may hold any lock now, that of an Event it waits for too

    def wait(self, seconds: float = LOOK_SECONDS) -> bool:
        """Wait for a signal; give whether one came."""
        ends_at = time.monotonic() + seconds
        while self.signal is None and (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code of a process that a signal ended."""
        return 128 + (self.signal or 0)
