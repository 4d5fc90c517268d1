"""The README's scripts are run as they stand, each in a process of its own; its two commands name what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = [
    block
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    if "with durable:" in block or "with harness(" in block
]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=["square", "harness"])
def test_a_script_of_the_readme_runs(script: str, tmp_path: Path) -> None:
    environment = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_of_the_readme_name_what_is_there() -> None:
    commands = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert len(commands) == 2
    assert (ROOT / "notebooks" / "headless.py").is_file()
    assert commands[1].strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
