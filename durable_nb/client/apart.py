"""Starting a process that outlives this one: a worker in the background.

Invariant: neither the end of this process, nor a signal to its group, nor a closed terminal reaches it; what it says stands in a
file that only its owner can read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import durable_nb

T = TypeVar("T")
START_SECONDS = 30.0
LOOK_SECONDS = 0.025


def start_apart(command: Sequence[str], output: Path, ready: Callable[[int], T | None]) -> T | None:
    """Start a Python process; give what `ready` gives of its id, as soon as that is something.

    Args:
        command: what follows ``python``. output: what the process says is appended to this file.

    Returns:
        None where it ended, or was not ready in time and was killed.
    """
    with os.fdopen(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as said:
        process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_environment(), **_apart()
        )
    deadline = time.monotonic() + START_SECONDS
    is_over = False
    while not is_over:
        is_over = process.poll() is not None or time.monotonic() > deadline  # looked at first: it may become ready, then end
        if (found := ready(process.pid)) is not None:
            process.returncode = process.returncode or 0  # it outlives this process, so nobody here waits for it
            return found
        time.sleep(LOOK_SECONDS)
    process.kill()
    process.wait()
    return None


def _apart() -> dict[str, Any]:
    """Give what parts a process from our signals: a session of its own, or on Windows no console and a group of its own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _environment() -> dict[str, str]:
    """Give the environment in which the local modules of this process, and this very package, are found."""
    package = str(Path(durable_nb.__file__).parent.parent)
    found = os.pathsep.join(dict.fromkeys([package, *filter(None, sys.path)]))
    return {**os.environ, "PYTHONPATH": found, "PYTHONUNBUFFERED": "1"}
