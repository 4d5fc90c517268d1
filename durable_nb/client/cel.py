"""`durable.cel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from durable_nb.errors import ExpressionError, ExpressionEvaluationError, InputValidationError
from durable_nb.tasks.payload import decode, encode_given

if TYPE_CHECKING:
    from durable_nb.client.app import Durable


@dataclass(frozen=True, slots=True)
class CELSuccess:
    """What an expression gives: a JSON value."""

    output: Any
    status: Literal["success"] = "success"


@dataclass(frozen=True, slots=True)
class CELFailure:
    """Why an expression gives nothing: it does not compile, or fails on these values."""

    error: str
    status: Literal["error"] = "error"


@dataclass(frozen=True, slots=True)
class CELEvaluationResult:
    """What came of trying out an expression."""

    result: CELSuccess | CELFailure


class CEL:
    """`durable.cel`: trying out expressions. Needs no log."""

    def __init__(self, host: Durable) -> None:
        self._host = host

    def debug(
        self,
        expression: str,
        input: object,
        additional_metadata: Mapping[str, object] | None = None,
        filter_payload: Mapping[str, object] | None = None,
        *,
        output: object = None,
        event_key: str = "",
        scope: str | None = None,
    ) -> CELEvaluationResult:
        """Evaluate a CEL expression as filters, keys and conditions do. It never raises for the expression's sake.

        Args:
            input: an event's payload, or a run's input.
            filter_payload: that of a `DefaultFilter`, which is the variable ``payload``.
            output: a parent's output, for conditions of workflows.

        Example:
            >>> Durable().cel.debug("input.amount > 99.5", {"amount": 100}).result.output  # doctest: +SKIP
            True
        """
        from durable_nb.engine.cel import evaluate

        given = {
            "input": input,
            "output": output,
            "additional_metadata": dict(additional_metadata or {}),
            "event_key": event_key,
            "scope": scope,
            "payload": dict(filter_payload or {}),
        }
        try:
            values = {name: decode(encode_given(value, of=f"the {name}")) for name, value in given.items()}
            return CELEvaluationResult(CELSuccess(evaluate(expression, **values)))
        except (ExpressionError, ExpressionEvaluationError, InputValidationError) as error:
            return CELEvaluationResult(CELFailure(str(error)))

    async def aio_debug(self, *args: Any, **kwargs: Any) -> CELEvaluationResult:
        """As `debug`."""
        return self.debug(*args, **kwargs)
