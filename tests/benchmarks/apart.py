"""Measuring in a process of its own, so that no work finds the caches, threads and memory that another one left.

`measure_apart` starts this module with the name of a function ``(Setting) -> Measured``; the function's answer is the last line
that the process prints. A library that is not installed is an answer, too.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.measure import Measured, Setting

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no figure."""

    reason: str


def measure_apart(function: str, scale: float, folder: Path) -> Measured | Missing:
    """Run ``module:function`` in a process of its own, in a folder of its own inside `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="work-", ignore_cleanup_errors=True) as own:
        return measure_in(function, scale, Path(own))


def measure_in(function: str, scale: float, folder: Path) -> Measured | Missing:
    """Run ``module:function`` in a process of its own, in this very folder."""
    process = start(function, scale, folder)
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Missing(f"not done in {PATIENCE_SECONDS:.0f} s")
    return answer(process.returncode, stdout, stderr)


def start(function: str, scale: float, folder: Path) -> subprocess.Popen[str]:
    """Start a process that measures a function and says what came of it (see `answer`)."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.apart", function, str(scale), str(folder)],
        cwd=ROOT,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(folder: Path) -> dict[str, str]:
    """Give the environment of a process that is to leave nothing behind outside its folder."""
    return {**os.environ, "JUPYTER_DATA_DIR": str(folder / "jupyter"), "IPYTHONDIR": str(folder / "ipython")}


def answer(status: int, stdout: str, stderr: str) -> Measured | Missing:
    """Read what a measuring process has said."""
    last = (stdout.strip().splitlines() or [""])[-1]
    if status == 0 and last.startswith("{"):
        said = json.loads(last)
        return Missing(said["missing"]) if "missing" in said else Measured(**said)
    return Missing(f"failed: {(stderr.strip().splitlines() or [f'status {status}'])[-1]}")


def main() -> None:
    """Measure as told by the command line."""
    function, scale, folder = sys.argv[1:]
    module, _, name = function.partition(":")
    measure = getattr(importlib.import_module(module), name)
    try:
        said = asdict(measure(Setting(Path(folder), float(scale))))
    except ModuleNotFoundError as error:
        said = {"missing": f"{(error.name or '?').partition('.')[0]} is not installed"}
    print(f"\n{json.dumps(said)}", flush=True)


if __name__ == "__main__":
    main()
