"""`durable.cel.debug`: what an expression gives, or why it gives nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_nb import Durable


@pytest.mark.parametrize(
    ("expression", "given", "output"),
    [
        ("input.amount > 99.5", {}, True),
        ("input.user + '-' + additional_metadata.by", {"additional_metadata": {"by": "me"}}, "ada-me"),
        ("payload.least", {"filter_payload": {"least": 3}}, 3),
        ("output.n + 1", {"output": {"n": 1}}, 2),
        ("event_key == 'a' && scope == 's'", {"event_key": "a", "scope": "s"}, True),
    ],
)
def test_it_gives_the_result(durable: Durable, expression: str, given: Any, output: Any) -> None:
    result = durable.cel.debug(expression, {"amount": 100, "user": "ada"}, **given).result
    assert (result.status, getattr(result, "output", result)) == ("success", output)
    assert not durable.is_open


@pytest.mark.parametrize(
    ("expression", "input", "words"),
    [
        ("input.amount >", {}, "does not compile"),
        ("input.amount > 1", {}, "there is no field 'amount'"),
        ("nobody.x", {}, "`nobody` is not known"),
        ("true", b"bytes", "the input is a bytes that JSON cannot hold"),
    ],
)
def test_it_gives_the_reason(durable: Durable, expression: str, input: Any, words: str) -> None:
    result = asyncio.run(durable.cel.aio_debug(expression, input)).result
    assert result.status == "error"
    assert words in getattr(result, "error", "")
