"""A worker in the background, which goes on without the terminal or kernel that started it.

`start` is what a notebook calls to hand over its runs. The command is ``python -m durable_nb.cli worker --log LOG``: it serves
what the log holds, signed by the same user; what it says stands in a file beside the log.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from durable_nb.cli.outcomes import NO_LOG, CommandError

START_SECONDS = 30.0
LOOK_SECONDS = 0.05
SERVING = "serving "


def start(log: Path, *, file: Path | None = None, until_done: bool = False, until_idle: bool = False) -> int:
    """Start a worker that outlives this process; give its process id once it serves.

    Args:
        file: the script or notebook; else what the log holds of notebooks is served.
        until_done: it ends by itself when every run that it serves has ended, or is parked.

    Raises:
        CommandError: it ended at once; the message is what it said.
    """
    said = log.with_name(f"{log.name}-worker.txt")
    command = [sys.executable, "-m", "durable_nb.cli", "worker", *([str(file)] if file else []), "--log", str(log)]
    command += ["--until-done"] * until_done + ["--until-idle"] * until_idle
    with os.fdopen(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as output:
        begin = said.stat().st_size
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            **_apart(),
        )
    deadline = time.monotonic() + START_SECONDS
    while True:
        text = said.read_bytes()[begin:].decode(errors="replace")
        if any(line.startswith(SERVING) for line in text.splitlines()):
            return process.pid
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise CommandError(text.strip() or f"The worker did not begin to serve; {said} may tell why.", NO_LOG)
        time.sleep(LOOK_SECONDS)


def _apart() -> dict[str, Any]:
    """Give what parts a process from our signals: a session of its own, or on Windows no console and a group of its own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
