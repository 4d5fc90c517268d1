"""Asks: what each operation puts into the log, in words for people and as a fingerprint for the cursor. Pure.

A fingerprint covers exactly what was asked (kind, task and input, durations, key, filter, scope, shape, function and
arguments), never labels or signal keys.
"""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import blake2b

from durable_nb.log.records import Ask, holdable
from durable_nb.tasks.conditions import OrGroup, SleepCondition, describe
from durable_nb.tasks.options import format_duration

CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False)
WORDS = 300  # characters of an ask that the log keeps for people


def ask_of(kind: str, words: str, *parts: object, line: int | None = None, label: str | None = None) -> Ask:
    """Make an ask; its fingerprint is of the kind and the parts (JSON values), not of the words."""
    text = CANONICAL.encode([kind, parts])
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Ask(kind=kind, words=shorten(f"{words} ({label})" if label else words), fingerprint=digest, line=line)


def ask_sleep(duration: timedelta, *, line: int | None = None, label: str | None = None) -> Ask:
    """Ask to sleep.

    >>> ask_sleep(timedelta(seconds=5)).words
    'sleep 5s'
    """
    return ask_of(
        "sleep",
        f"sleep {format_duration(duration.total_seconds())}",
        duration // timedelta(microseconds=1),
        line=line,
        label=label,
    )


def ask_event(
    key: str,
    expression: str | None,
    scope: str | None,
    *,
    lookback: timedelta | None = None,
    line: int | None = None,
    label: str | None = None,
) -> Ask:
    """Ask for an event, those of the time before included where there is a lookback."""
    words = f"event {key}" + (f" in scope {scope}" if scope is not None else "") + (f" if {expression}" if expression else "")
    if lookback is None:
        return ask_of("event", words, key, expression or "", scope, line=line, label=label)
    words += f", also {format_duration(lookback.total_seconds())} back"
    return ask_of("event", words, key, expression or "", scope, lookback // timedelta(microseconds=1), line=line, label=label)


def ask_wait(groups: tuple[OrGroup, ...], *, line: int | None = None, label: str | None = None) -> Ask:
    """Ask for a combination of conditions."""
    shape = [
        [
            ["sleep", item.duration // timedelta(microseconds=1), item.readable_data_key]
            if isinstance(item, SleepCondition)
            else ["event", item.event_key, item.expression or "", item.scope, item.readable_data_key]
            for item in group.conditions
        ]
        for group in groups
    ]
    return ask_of("wait", f"wait for {describe(groups)}", shape, line=line, label=label)


def ask_child(task: str, input_text: str, passed: str, child_key: str | None, *, line: int | None = None) -> Ask:
    """Ask for a child; `passed` is its input without model defaults, which the fingerprint covers."""
    key = f" [{child_key}]" if child_key is not None else ""
    return ask_of("child", f"{task}{key} {input_text[:WORDS]}", task, child_key, passed, line=line)


def shorten(text: str) -> str:
    """Cut a text to what the log keeps for people."""
    return holdable(text if len(text) <= WORDS else text[: WORDS - 1] + "…")
