"""Every test has a folder, a log, a keyring and an IPython profile of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.helpers import Kernel, Shell, install_kernelspec


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, empty; the log is `durable.db` in it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("DURABLE_NB_LOG", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def bare_shell() -> Iterator[Shell]:
    """A shell without the extension."""
    shell = Shell()
    yield shell
    shell.close()


@pytest.fixture
def shell(bare_shell: Shell) -> Shell:
    """A shell with the extension."""
    bare_shell.load()
    return bare_shell


@pytest.fixture
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel without the extension."""
    kernel = Kernel(folder)
    yield kernel
    kernel.shut_down(now=True)


@pytest.fixture
def durable_kernel(folder: Path) -> Iterator[Kernel]:
    """The kernel that the wheel ships."""
    install_kernelspec(folder)
    kernel = Kernel(folder, name="durable-python3")
    yield kernel
    kernel.shut_down(now=True)
