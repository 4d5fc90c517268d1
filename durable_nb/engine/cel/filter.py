"""A compiled filter: the values come in, the answer or one error goes out.

Invariant: a filter is immutable and each evaluation has a frame of its own, so any thread may use it at any time, also several
at once; whatever goes wrong inside leaves as an `ExpressionEvaluationError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from durable_nb.engine.cel.equalities import Equalities
from durable_nb.engine.cel.faults import Fault, Place, shorten, where
from durable_nb.engine.cel.frame import DEFAULTS, VARIABLES, Eval, Frame, OutOfStepsError
from durable_nb.engine.cel.limits import MAX_STEPS
from durable_nb.engine.cel.payload import check_input, to_json
from durable_nb.engine.cel.values import type_name
from durable_nb.errors import ExpressionEvaluationError


class Filter:
    """A compiled expression. Immutable, so any thread may use it at any time, also several at once."""

    __slots__ = ("_macro_levels", "_root", "equalities", "expression")

    def __init__(
        self, expression: str, root: Eval | None = None, macro_levels: int = 0, equalities: Equalities | None = None
    ) -> None:
        """Use `compile_filter`. Without a `root` it is the empty filter, which is always true."""
        self.expression = expression
        self.equalities = equalities
        self._root = root
        self._macro_levels = macro_levels

    def matches(
        self,
        *,
        input: object,
        output: object = None,
        additional_metadata: Mapping[str, object] | None = None,
        event_key: str = "",
        scope: str | None = None,
        payload: Mapping[str, object] | None = None,
    ) -> bool:
        """Tell whether these JSON values fulfil the expression.

        Raises:
            ExpressionEvaluationError: a field is missing, a type does not fit, the result is no bool, or a limit was met.
        """
        if self._root is None:
            return True
        metadata = {} if additional_metadata is None else dict(additional_metadata)
        own = {} if payload is None else dict(payload)
        result = self._evaluate(self._root, [input, output, metadata, event_key, scope, own])  # in the order of VARIABLES
        if not isinstance(result, bool):
            self._fail(f"a filter must give true or false, not {type_name(result)}; compare it with what you expect", None)
        return result

    def value(self, variables: Mapping[str, object]) -> object:
        """Give the result itself, as a plain JSON value. Variables that are not given have the defaults of `matches`."""
        if self._root is None:
            return True
        root = self._root
        values = [variables.get(name, DEFAULTS[name]) for name in VARIABLES]
        return self._evaluate(lambda frame: to_json(frame, root(frame)), values)

    def _evaluate(self, root: Eval, values: list[object]) -> object:
        try:
            check_input(values)
            return root(Frame(values + [None] * self._macro_levels))
        except Fault as fault:
            self._fail(fault.message, fault.place)
        except OutOfStepsError:
            self._fail(
                f"the budget of {MAX_STEPS:,} steps is used up; nest fewer macros, or filter on a smaller part of the input",
                None,
            )
        except RecursionError:
            self._fail("the values nest too deep to be compared; compare a part of them", None)

    def _fail(self, message: str, place: Place | None) -> NoReturn:
        told = f" at {where(self.expression, *place)}" if place else f" `{shorten(self.expression)}`"
        raise ExpressionEvaluationError(f"The CEL expression{told} failed: {message}.") from None
