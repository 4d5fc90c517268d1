"""What flow control makes of a new run: its keys, as CEL gives them of its input. And what follows when one run ends others.

Invariant: the keys are computed once, when the run is made, and kept with it; an expression that fails on the input stops the
call before anything is written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from durable_nb.engine.cel import compile_filter
from durable_nb.errors import (
    DeclarationError,
    ExpressionError,
    ExpressionEvaluationError,
    InputValidationError,
)
from durable_nb.log.needs import IdempotencyKey, Need
from durable_nb.tasks.flow import Idempotency, RateLimit, TTLBasedIdempotencyConfig
from durable_nb.tasks.options import TaskOptions
from durable_nb.tasks.payload import decode, encode_input

if TYPE_CHECKING:
    from durable_nb.tasks.task import Task


def check_declared(task: Task[Any]) -> None:
    """Refuse a task whose expressions do not compile, or whose crons bring an input that does not fit.

    Raises:
        DeclarationError: with the expression's place.
    """
    options = task.options
    limits = options.rate_limits
    given = [("concurrency", item.expression) for item in options.concurrency]
    given += [
        ("rate_limits", text) for item in limits for text in (item.dynamic_key, item.units, item.limit) if isinstance(text, str)
    ]
    given += [("default_filters", item.expression) for item in options.default_filters]
    if options.idempotency is not None:
        given.append(("idempotency", options.idempotency.key_expression))
    for of, expression in given:
        try:
            compile_filter(expression)
        except ExpressionError as error:
            raise DeclarationError(f"The option {of} of task '{task.name}' cannot work. {error}") from None
    for cron in options.on_crons:
        try:
            encode_input(cron.input, task.input_adapter, of=f"the input of the cron '{cron.expression}' of task '{task.name}'")
        except InputValidationError as error:
            raise DeclarationError(f"{error} Give it: on_crons=[Cron('{cron.expression}', input=...)].") from None


class Keys:
    """The values of a new run's expressions. Reads its input and metadata (JSON text) once, and only if there are any."""

    def __init__(self, task: str, input: str, metadata: str) -> None:
        self._task = task
        self._texts = {"input": input, "additional_metadata": metadata}
        self._variables: dict[str, object] = {}

    def value(self, expression: str, *, of: str) -> object:
        """Evaluate an expression.

        Raises:
            InputValidationError: it fails on this input.
        """
        if not self._variables:
            self._variables = {name: decode(text) for name, text in self._texts.items()}
        try:
            return compile_filter(expression).value(self._variables)
        except (ExpressionError, ExpressionEvaluationError) as error:
            raise InputValidationError(
                f"The run of '{self._task}' was not started, since its {of} cannot be told. {error}"
            ) from None

    def text(self, expression: str, *, of: str) -> str:
        """Evaluate an expression that gives a key; the empty one is the same for all.

        Raises:
            InputValidationError: it fails on this input, or gives something that is no key.
        """
        if not expression.strip():
            return ""
        value = self.value(expression, of=of)
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        kind = "null" if value is None else type(value).__name__
        raise InputValidationError(
            f"The run of '{self._task}' was not started: its {of} `{expression}` gives {kind}; a key is text, a number or a bool."
        )

    def count(self, given: int | str, *, of: str) -> int:
        """Give a number that may be an expression.

        Raises:
            InputValidationError: it fails on this input, or gives something that is no number of 1 or more.
        """
        value = self.value(given, of=of) if isinstance(given, str) else given
        if type(value) is not int or not 1 <= value < 2**31:
            raise InputValidationError(
                f"The run of '{self._task}' was not started: its {of} `{given}` gives {value!r}, not a whole number of 1 or more."
            )
        return value


def needs_of(options: TaskOptions, keys: Keys, task: str) -> tuple[Need, ...]:
    """Give the places and units that a new run needs.

    Raises:
        InputValidationError: an expression fails on its input.
    """
    found = [
        Need(
            kind="runs",
            task=task,
            expression=item.expression,
            key=keys.text(item.expression, of="concurrency expression"),
            most=item.max_runs,
            strategy=item.limit_strategy.value,
        )
        for item in options.concurrency
    ]
    return (*found, *[_rate(item, keys) for item in options.rate_limits])


def _rate(item: RateLimit, keys: Keys) -> Need:
    units = keys.count(item.units, of="rate limit's units")
    if item.static_key is not None:
        return Need(kind="rate", key=item.static_key, most=None, units=units)
    key = keys.text(item.dynamic_key or "", of="rate limit's dynamic_key")
    most = keys.count(item.limit or 1, of="rate limit's limit")
    return Need(kind="rate", key=key, most=most, seconds=item.duration.seconds, units=units)


def idempotency_of(config: Idempotency | None, given: str | None, keys: Keys) -> IdempotencyKey | None:
    """Give the idempotency key of a new run: the one that was given with the call, or its task's.

    A key that is given and whose task declares no idempotency is taken for good.

    Raises:
        InputValidationError: the expression fails on the input.
    """
    if config is None:
        return None if given is None else IdempotencyKey(given)
    key = given if given is not None else keys.text(config.key_expression, of="idempotency key")
    if isinstance(config, TTLBasedIdempotencyConfig):
        return IdempotencyKey(key, None if config.ttl is None else config.ttl.total_seconds())
    ttl = config.fallback_ttl
    return IdempotencyKey(key, None if ttl is None else ttl.total_seconds(), tuple(config.while_status))
