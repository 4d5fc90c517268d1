"""What a person gets from `pip install` and from the first `import`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "durable_nb"
KERNELSPEC = f"durable_nb-{version('durable_nb')}.data/data/share/jupyter/kernels/durable-python3"
HEAVY = {"IPython", "aiosqlite", "anywidget", "celpy", "graphviz", "ipykernel", "ipywidgets", "rich", "typer"}


def python(code: str) -> str:
    """Run `code` in an interpreter of its own; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("*.whl")
    with ZipFile(path) as opened:
        yield opened


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: ZipFile) -> None:
    kinds = {".css", ".js", ".py", ".sql", ".typed"}
    sources = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.suffix in kinds}
    assert sources <= set(wheel.namelist())
    assert "durable_nb/py.typed" in sources
    assert any(name.startswith("durable_nb/log/") and name.endswith(".sql") for name in sources)


@pytest.mark.slow
def test_the_wheel_brings_the_kernel_that_loads_the_extension(wheel: ZipFile) -> None:
    spec = json.loads(wheel.read(f"{KERNELSPEC}/kernel.json"))
    assert spec["display_name"] == "Durable Python 3"
    assert spec["argv"][0] == "python", "jupyter_client puts the environment's own interpreter in the place of this very word"
    assert "--ext=durable_nb" in spec["argv"]
    assert {name for name in wheel.namelist() if "/kernels/" in name} == {
        f"{KERNELSPEC}/kernel.json",
        f"{KERNELSPEC}/logo-svg.svg",
    }


@pytest.mark.slow
def test_the_wheel_brings_the_command_and_the_exporter(wheel: ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    points = wheel.read(name).decode()
    assert "durable-nb = durable_nb.cli:main" in points
    assert "durable-script = durable_nb.export.nbconvert:DurableScriptExporter" in points


def test_jupyter_finds_the_kernel_of_this_environment() -> None:
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("durable-python3")
    assert spec.argv == json.loads((PACKAGE / "notebook" / "kernelspec" / "kernel.json").read_text())["argv"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    imported = set(python("import sys, durable_nb; print(*{name.partition('.')[0] for name in sys.modules})").split())
    assert "durable_nb" in imported
    assert not imported & HEAVY


def test_importing_the_package_is_quick() -> None:
    """Counted without pydantic, which most notebooks import anyway; the first run, which may compile, is not counted."""
    code = (
        "import time; from pydantic import BaseModel, TypeAdapter; "
        "began = time.perf_counter(); import durable_nb; print(time.perf_counter() - began)"
    )
    _, *seconds = (float(python(code)) for _ in range(6))
    assert statistics.median(seconds) < 0.1
