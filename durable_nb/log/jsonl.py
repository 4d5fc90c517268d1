"""A whole log as JSON lines, to be read by other programs, compared, or made a log again.

The first line is ``{"durable_nb": 1, "schema": …, "log": id, "redacted": […]}``. Each further one is ``{"table": name, "row":
{column: value, …}}``: tables in the order of `transfer.TABLES`, columns as the schema has them, bytes as ``{"base64": …}``. The
last one is ``{"end": number of rows}``. A payload column holds JSON text, or the bytes of its hash in table `payload`; with
redaction always the text, and there is no row of `payload`.

Invariants: an export is one snapshot; an import makes a new file, wholly or not at all, and that log is inert: this user has not
made it, and none of its signatures holds.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from durable_nb.errors import LogError, NewerLogError, NotALogError
from durable_nb.log.connection import explain, migrations, open_sqlite, prepare
from durable_nb.log.copying import new_file
from durable_nb.log.payloads import stored
from durable_nb.log.redacting import Redaction
from durable_nb.log.transfer import PAYLOADS, TABLES, Payloads, Row, columns_of, insert, refuse_tangled, rows_of

FORMAT = 1
LONGEST_LINE = 512 * 2**20  # an artifact may have 256 MiB
READ = {table: f"SELECT * FROM {table}" + (" ORDER BY number" if table == "run" else "") for table in TABLES}  # noqa: S608


def write_jsonl(source: Path, target: Path, *, redaction: Redaction) -> Path:
    """Write a log into a file; give its path. Blocking.

    Raises:
        LogError: there is such a file already, or it cannot be written; NotALogError: the log is damaged.
    """
    with new_file(target) as temporary:
        try:
            with (
                contextlib.closing(open_sqlite(source, query_only=True)) as log,
                temporary.open("w", encoding="utf-8", newline="\n") as file,
            ):
                for value in _lines(log, redaction):
                    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
        except sqlite3.Error as error:
            raise explain(error, source) from error
    return target


def _lines(log: sqlite3.Connection, redaction: Redaction) -> Iterator[dict[str, Any]]:
    log.execute("BEGIN")
    (log_id,) = log.execute("SELECT id FROM log").fetchone()
    yield {"durable_nb": FORMAT, "schema": len(migrations()), "log": log_id, "redacted": list(redaction.patterns)}
    count, payloads = 0, Payloads(log, None, redaction)
    for table in TABLES:
        if table == "payload" and redaction:
            continue
        for row in rows_of(log, READ[table], {}):
            count += 1
            yield {"table": table, "row": _plain(payloads.taken(table, row) if redaction else row)}
    yield {"end": count}


def _plain(row: Row) -> Row:
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value for name, value in row.items()
    }


def read_jsonl(source: Path, target: Path) -> Path:
    """Make a log of what `write_jsonl` wrote; give its path. Blocking.

    The log is inert until it is trusted. What was running counts as left by a dead worker, and goes on then.

    Raises:
        LogError: there is such a log already, or a line is cut, missing or none of ours; NewerLogError: a newer version wrote it.
    """
    with new_file(target) as temporary:
        temporary.unlink()
        try:
            prepare(temporary)
            with contextlib.closing(open_sqlite(temporary)) as log, source.open(encoding="utf-8") as file:
                log.execute("BEGIN")
                _fill(log, _read_lines(file))
                log.execute("COMMIT")
                log.execute("PRAGMA journal_mode = DELETE")
        except (OSError, UnicodeDecodeError) as error:
            raise LogError(f"{source} cannot be read: {error}.") from error
        except (sqlite3.Error, OverflowError) as error:
            raise LogError(f"{source} holds something that no log holds ({error}): it was changed by hand.") from error
        finally:
            for suffix in ("-wal", "-shm"):
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    return target


def _read_lines(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        try:
            if len(line) > LONGEST_LINE:
                raise ValueError
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise LogError(f"Line {number} is no JSON: the file was cut, or is no export.") from None
        if not isinstance(value, dict):
            raise LogError(f"Line {number} is no JSON object: the file is no export.")
        yield number, value


def _fill(log: sqlite3.Connection, lines: Iterator[tuple[int, dict[str, Any]]]) -> None:
    _, head = next(lines, (0, {}))
    if head.get("durable_nb") != FORMAT:
        raise NotALogError("The first line does not say that it is an export of a log.")
    if head.get("schema") != len(migrations()):
        raise NewerLogError(f"It was written by another version (schema {head.get('schema')!r}): use that one to import it.")
    columns = {table: columns_of(log, table) for table in TABLES}
    count = 0
    for number, line in lines:
        if "end" in line:
            if line["end"] != count or next(lines, None) is not None:
                raise LogError(f"The end says {line['end']!r} rows, but {count} are there: the file was changed.")
            refuse_tangled(log)
            return
        table, row = line.get("table"), line.get("row")
        if table not in columns or not isinstance(row, dict) or tuple(row) != columns[table]:
            raise LogError(f"Line {number} is no row of a log: the file was changed.")
        values = {name: _value(value, number) for name, value in row.items()}
        for column in PAYLOADS.get(table, ()):
            if isinstance(values[column], str):
                values[column] = stored(log, values[column])
        insert(log, table, values)
        count += 1
    raise LogError(f"The end is missing after {count} rows: the file was cut. Nothing was made.")


def _value(value: Any, number: int) -> Any:
    if isinstance(value, dict) and set(value) == {"base64"}:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (ValueError, TypeError):
            raise LogError(f"Line {number} holds bytes that are none.") from None
    if isinstance(value, dict | list):
        raise LogError(f"Line {number} is no row of a log: the file was changed.")
    return value
