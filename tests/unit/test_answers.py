"""What a person types is read as the value that the question takes."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from durable_nb.errors import InputValidationError
from durable_nb.tasks.answers import read_answer


class Verdict(BaseModel):
    ok: bool
    note: str = ""


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("yes", bool, True),
        ("N", bool, False),
        ("true", bool, True),
        ("yes", str, "yes"),
        ("yes", Literal["yes", "no"], "yes"),
        ("12", int, 12),
        ("12", str, "12"),
        ("12", int | str, 12),
        ('"12"', int | str, "12"),
        ("red, or blue", str, "red, or blue"),
        ('{"ok": true}', Verdict, {"ok": True}),
        ("null", int | None, None),
        ("2026-01-31", str, "2026-01-31"),
        ("", str, ""),
    ],
)
def test_the_first_reading_that_fits_is_taken(text: str, annotation: Any, expected: object) -> None:
    value = read_answer(text, TypeAdapter(annotation).json_schema())
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "annotation", "words"),
    [
        ("perhaps", bool, "'perhaps' is not of type 'boolean'"),
        ('{"ok": 3}', Verdict, "ok: 3 is not of type 'boolean'"),
        ("1", bool, "1 is not of type 'boolean'"),
    ],
)
def test_what_fits_in_no_reading_is_refused_by_field(text: str, annotation: Any, words: str) -> None:
    with pytest.raises(InputValidationError) as refused:
        read_answer(text, TypeAdapter(annotation).json_schema())
    assert words in str(refused.value)
    assert refused.value.fields[0][0] == (("ok",) if annotation is Verdict else ())
