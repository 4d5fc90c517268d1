"""Every test has a log, a clock and a keyring of its own; when it ends, the log's state must follow from its facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_nb import Durable
from tests.engine.helpers import Bench


@pytest.fixture(autouse=True)
def private_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.check_state()
    bench.close()
    bench.check_state()


@pytest.fixture
def durable(bench: Bench) -> Durable:
    """An app object on the bench's log, its time the bench's clock."""
    return bench.durable()
