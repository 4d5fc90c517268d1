"""The program, run once without a disturbance: what every other run of it is compared with."""

from __future__ import annotations

import json

import pytest

from tests.crash.helpers import Expected, Program


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    program = Program(tmp_path_factory.mktemp("undisturbed"))
    done = program.run()
    assert done.returncode == 0, done.stderr
    return Expected(json.loads(done.stdout), program.executed())
