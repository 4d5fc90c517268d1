"""Binder builds the repository by repo2docker's rules; the same steps in a clean environment run the first demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.notebook.helpers import ROOT

BINDER = ROOT / "binder"
EXECUTE = (
    "import nbformat, nbclient, sys; notebook = nbformat.read(sys.argv[1], as_version=4); "
    "nbclient.NotebookClient(notebook, timeout=60, resources={'metadata': {'path': sys.argv[2]}}).execute()"
)


def test_the_files_are_those_that_repo2docker_reads() -> None:
    assert {path.name for path in BINDER.iterdir()} == {"runtime.txt", "requirements.txt", "apt.txt", "postBuild"}
    assert re.fullmatch(r"python-3\.1[123]\n", (BINDER / "runtime.txt").read_text())
    assert "graphviz" in (BINDER / "apt.txt").read_text().split()
    assert (BINDER / "postBuild").read_text().startswith("#!/bin/bash\n")
    if os.name == "posix":
        assert os.access(BINDER / "postBuild", os.X_OK), "repo2docker executes it"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="Binder's images are Linux, and postBuild is a shell script")
def test_its_steps_give_an_environment_that_runs_the_first_demo(folder: Path) -> None:
    made = folder / "environment"
    venv.create(made, with_pip=True, symlinks=True)
    python = str(made / "bin" / "python")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "COVERAGE"))},
        "PATH": f"{made / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }

    def step(*command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    step(python, "-m", "pip", "install", "--quiet", "-r", "binder/requirements.txt")
    step("bash", "binder/postBuild")
    work = folder / "notebooks"
    work.mkdir()
    first = min((ROOT / "notebooks").glob("*.ipynb"))
    step(python, "-c", EXECUTE, str(first), str(work))
    assert list(work.glob("*.db")), "the demo's log"
