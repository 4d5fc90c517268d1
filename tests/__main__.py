"""Run every check in order, as CI does: `python -m tests [--quick] [STEP ...]`.

Stops at the first step that fails and exits with its status. The cheap steps come first, so that a slip in the format
costs a second and not the whole run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent

STEPS: dict[str, list[str]] = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "pytest": ["pytest", "-n", "auto", "--ignore", "tests/browser"],  # a process for each core
    "browser": ["pytest", "-n", "auto", "tests/browser"],  # by itself, since Playwright's loop runs on in the main thread
}
QUICK: dict[str, list[str]] = {"pytest": ["-m", "not slow"]}
SLOW = {"browser"}


def run(step: str, *, quick: bool) -> int:
    """Run one step, with a headline before and its time after; return its exit status."""
    command = STEPS[step] + (QUICK.get(step, []) if quick else [])
    print(f"\n=== {step}: {' '.join(command)}", flush=True)
    began = time.perf_counter()
    status = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    print(f"=== {step}: {'ok' if status == 0 else f'FAILED ({status})'} in {time.perf_counter() - began:.1f} s", flush=True)
    return status


def main() -> int:
    """Run the steps asked for, or all, up to the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m tests", description="Run every check, up to the first that fails.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"only these, of: {', '.join(STEPS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="leave out the tests marked slow")
    options = parser.parse_args()
    if unknown := set(options.steps) - STEPS.keys():
        parser.error(f"no step is called {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    steps = options.steps or [step for step in STEPS if not (options.quick and step in SLOW)]
    return next((status for step in steps if (status := run(step, quick=options.quick))), 0)


if __name__ == "__main__":
    sys.exit(main())
