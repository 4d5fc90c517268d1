"""Starting the process in which code is replayed, and hearing what it says; it is killed when it says nothing for too long.

Invariant: a job goes to the process by pickle, made here; what comes back is lines of JSON, which execute nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import durable_nb

FIRST_SECONDS = 20.0  # to start and to import what the code needs

Hear = Callable[[float], dict[str, Any] | None]


@contextlib.contextmanager
def guarded(module: str, job: object) -> Iterator[Hear]:
    """Start a module's `main` in a process of its own, with a job.

    Yields:
        A function that gives the next thing the process says; None where it has ended, or says nothing for that many seconds.
    """
    command = (sys.executable, "-P", "-c", f"from {module} import main; main()")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
    ) as process:
        said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process, pickle.dumps(job), said), daemon=True).start()

        def hear(patience: float) -> dict[str, Any] | None:
            try:
                line = said.get(timeout=patience)
            except queue.Empty:
                return None
            return None if line is None else json.loads(line)

        try:
            yield hear
        finally:
            process.kill()


def module_path() -> list[str]:
    """Give `sys.path` as the code of this process's tasks finds local modules."""
    return [path for path in sys.path if path] + [""]


def _environment() -> dict[str, str]:
    """Give the environment of the process, in which this very package is found first."""
    package = str(Path(durable_nb.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}


def _read_lines(process: subprocess.Popen[bytes], job: bytes, said: queue.SimpleQueue[str | None]) -> None:
    """Hand the job over and read what the process says, on a thread, so that neither side waits for the other."""
    try:
        if process.stdin is not None and process.stdout is not None:
            process.stdin.write(job)
            process.stdin.close()
            for line in process.stdout:
                said.put(line.decode())
    except (OSError, ValueError):  # it was killed
        pass
    finally:
        said.put(None)
