"""JSON Schemas: how any process judges a payload or an answer whose type only the task's own code knows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import TypeAdapter

if TYPE_CHECKING:
    import jsonschema

NAMED = 5  # misfits that a sentence names
WORDS = 200  # characters of each
MULTIPLE = 1e-9  # of the value or step may be left over, as in pydantic
Misfit = tuple[tuple[str | int, ...], str]  # the path to a value, and what is wrong with it
FORMATS = {"date-time": datetime, "date": date, "time": time, "duration": timedelta, "uuid": UUID}


def misfit(value: object, schema: str) -> str | None:
    """Give why a JSON value does not fit a JSON Schema, field by field, or None.

    >>> misfit({"by": 7}, '{"properties": {"by": {"type": "string"}}, "required": ["by", "amount"]}')
    "by: 7 is not of type 'string'; value: 'amount' is a required property"
    """
    parts = sorted({_cut(f"{'.'.join(map(str, loc)) or 'value'}: {message}") for loc, message in misfits(value, schema)})
    more = len(parts) - NAMED
    return ("; ".join(parts[:NAMED]) + (f"; and {more} more" if more > 0 else "")) if parts else None


def misfits(value: object, schema: str) -> list[Misfit]:
    """Give what is wrong with a JSON value: the path to it, and why.

    >>> misfits({"by": [7]}, '{"properties": {"by": {"items": {"type": "string"}}}}')
    [(('by', 0), "7 is not of type 'string'")]
    """
    import jsonschema

    validator = _validator()(json.loads(schema), format_checker=_formats())
    best = (jsonschema.exceptions.best_match([error]) for error in validator.iter_errors(value))
    return [(tuple(error.absolute_path), _cut(error.message)) for error in best]


def _cut(text: str) -> str:
    return text if len(text) <= WORDS else f"{text[: WORDS // 2]}…{text[-WORDS // 2 :]}"  # the whole value is in it


@lru_cache(maxsize=1)
def _validator() -> Any:
    """Give the validator, which takes 0.7 for a multiple of 0.1 as pydantic does."""
    import jsonschema

    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"multipleOf": _multiple_of})


def _multiple_of(validator: Any, step: float, value: Any, _: Any) -> Iterator[jsonschema.ValidationError]:
    import jsonschema

    if not step or not validator.is_type(value, "number") or not math.isfinite(value):
        return
    exact, part = Fraction(value), Fraction(step)
    if min(exact % part, part - exact % part) > max(abs(exact), part) * Fraction(MULTIPLE):
        yield jsonschema.ValidationError(f"{value!r} is not a multiple of {step}")


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
