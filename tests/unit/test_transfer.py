"""No table is forgotten where rows are copied or removed: a new one in the schema must be named there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.errors import DeclarationError
from durable_nb.log import bundling, transfer, trees
from durable_nb.log.connection import open_sqlite, prepare
from durable_nb.log.redacting import Redaction, marked_fields


@pytest.fixture
def log(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    prepare(tmp_path / "log.db")
    with closing(open_sqlite(tmp_path / "log.db")) as connection:
        yield connection


def tables(log: sqlite3.Connection) -> list[str]:
    rows = log.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    return [name for (name,) in rows]


def test_every_table_is_exported(log: sqlite3.Connection) -> None:
    assert {"log", *transfer.TABLES} == set(tables(log))


def test_every_payload_column_is_known(log: sqlite3.Connection) -> None:
    columns = {(table, row[1]) for table in tables(log) for row in log.execute(f"PRAGMA table_info({table})") if row[2] == "ANY"}
    known = {(table, column) for table, names in transfer.PAYLOADS.items() for column in names}
    assert columns - {("chunk", "data")} == known
    assert len(trees.KEPT) == len(known)


def test_all_that_belongs_to_a_run_goes_with_it_and_into_its_bundle(log: sqlite3.Connection) -> None:
    belongs = {table for table in tables(log) for row in log.execute(f"PRAGMA foreign_key_list({table})") if row[2] == "run"}
    removed = " ".join(trees.REMOVE)
    assert {table for table in belongs | {"wait"} if f"{table} " not in removed} == set()
    taken = {table for table, _ in bundling.PARTS}
    assert belongs - taken == {"place", "idempotency", "schedule"}, "what only an engine needs stays behind"


def test_fields_are_found_by_their_places() -> None:
    text = '{"a":[{"PassWord":1,"n":2}],"card":{"number":3,"no":4},"number":5,"x_token":null}'
    clean = Redaction(["password", "card.n*", "*_token"]).text(text)
    word = '"[redacted]"'
    assert clean == f'{{"a":[{{"PassWord":{word},"n":2}}],"card":{{"number":{word},"no":{word}}},"number":5,"x_token":{word}}}'
    assert Redaction([]).text(text) == text
    assert Redaction(["nowhere"]).text("[1, 2]") == "[1, 2]", "what has none of them stays letter by letter"
    for wrong in ("password", ["a..b"], [""], [1]):
        with pytest.raises(DeclarationError, match="give a list of field names"):
            Redaction(wrong)  # type: ignore[arg-type]


def test_types_mark_their_secrets() -> None:
    from pydantic import BaseModel, Field, SecretStr

    class Inner(BaseModel):
        key: SecretStr | None = None
        plain: str = ""

    class Outer(BaseModel):
        inner: list[Inner]
        pin: int = Field(json_schema_extra={"redact": True})

    assert marked_fields(Outer.model_json_schema()) == {"key", "pin"}
