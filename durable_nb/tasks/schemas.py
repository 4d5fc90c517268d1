"""JSON Schemas: how any process judges a payload or an answer whose type only the task's own code knows."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import TypeAdapter

if TYPE_CHECKING:
    import jsonschema

NAMED = 5  # misfits that a sentence names
WORDS = 200  # characters of each
FORMATS = {"date-time": datetime, "date": date, "time": time, "duration": timedelta, "uuid": UUID}


def misfit(value: object, schema: str) -> str | None:
    """Give why a JSON value does not fit a JSON Schema, field by field, or None.

    >>> misfit({"by": 7}, '{"properties": {"by": {"type": "string"}}, "required": ["by", "amount"]}')
    "by: 7 is not of type 'string'; value: 'amount' is a required property"
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(json.loads(schema), format_checker=_formats())
    best = [jsonschema.exceptions.best_match([error]) for error in validator.iter_errors(value)]
    parts = sorted({_words(error) for error in best})
    more = len(parts) - NAMED
    return ("; ".join(parts[:NAMED]) + (f"; and {more} more" if more > 0 else "")) if parts else None


def _words(error: jsonschema.ValidationError) -> str:
    text = f"{'.'.join(map(str, error.absolute_path)) or 'value'}: {error.message}"
    return text if len(text) <= WORDS else f"{text[: WORDS // 2]}…{text[-WORDS // 2 :]}"  # the whole value is in it


@lru_cache(maxsize=1)
def _formats() -> jsonschema.FormatChecker:
    """Give a checker of the formats that pydantic writes into a schema and reads back."""
    import jsonschema

    checker = jsonschema.FormatChecker(formats=())
    for name, form in FORMATS.items():
        checker.checks(name, raises=ValueError)(_reader(TypeAdapter(form)))
    return checker


def _reader(adapter: TypeAdapter[Any]) -> Any:
    def fits(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_python(value)
        return True

    return fits
