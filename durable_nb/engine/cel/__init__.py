"""CEL filters: compiled once, evaluated in microseconds, bounded whatever the expression and the event are.

Invariant: **the answer depends on the expression and the values alone**, not on the machine, its load or the thread. So the
budget is counted in steps (`MAX_STEPS`), never in milliseconds: an event that matched before a crash matches after it too.

cel-python gives the grammar; the evaluation is done here, by a tree of closures over plain Python values. Of cel-python
0.5.0's own runners the interpreter takes 120-300 µs for a simple filter and the transpiler 50-120 µs (printing each error on
stderr), against 0.5-1.5 µs here and 4 µs for checking a payload of 25 values; in both an int against a double is an error,
neither can be stopped, and most operators and functions would have to be replaced.

The way through the package: `source` (text, literals read) → `grammar` (tree) → `compiler` (closures, made by `closures` and
`macros` of the operations in `relations`, `arithmetic`, `containers` and `functions`) → `filter` (the values come in, the
answer goes out); `equalities` tells an index which filters an event can do without. cel-python is loaded by the first expression
that is not empty.

Values. JSON numbers written without a fraction are CEL ints, others are doubles; ints, uints and doubles compare by their
mathematical value, everywhere (`==`, `<`, `in`, inside lists and maps), and values of other different types are unequal, not
an error. *Arithmetic* does not mix them, as CEL says: `input.amount * 2.0` is an error when the amount came as 100, and
`double(input.amount) * 2.0` is right for both. Results outside int64 are an error.

Limits that a user can meet:

- an expression: `MAX_EXPRESSION_BYTES`, nested at most `MAX_DEPTH` levels (chains of `&&`, `||`, `+` are one level);
- the values: `MAX_INPUT_VALUES`, `MAX_INPUT_CHARS`, `MAX_INPUT_DEPTH`, and ints of at most `MAX_INT_BITS` (wider than int64
  they compare exactly, and arithmetic on them overflows);
- an evaluation: `MAX_STEPS`. A step is about one node of the expression visited inside a macro, 64 characters compared,
  joined or searched, or 64 (character x instruction of the pattern) in `matches()`. 100,000 steps take 10-60 ms. A filter
  without macros takes next to none, unless it compares long lists or texts;
- `matches()` takes RE2 patterns (linear in the subject; no look-around, no back-references) of `MAX_PATTERN_CHARS`. A simple
  one, like `^order-[0-9]+$`, searches about 1 M characters before the steps are used up; `foo.*bar` a third of that, `x{20}`
  a quarter;
- not there: protobuf messages, two-variable macros, optionals (`.?`), back-quoted fields (`.true` and the like: write
  `["true"]`), extension libraries;
- a duration is an int64 of nanoseconds (292 years either way), as in Go; time-zone names need the system's or tzdata's list.
"""

from __future__ import annotations

from functools import lru_cache

from durable_nb.engine.cel.compiler import Compiler
from durable_nb.engine.cel.equalities import equalities_of
from durable_nb.engine.cel.faults import listed, shorten
from durable_nb.engine.cel.filter import Filter
from durable_nb.engine.cel.frame import VARIABLES
from durable_nb.engine.cel.grammar import parse
from durable_nb.engine.cel.limits import (
    CACHED_EXPRESSIONS,
    MAX_DEPTH,
    MAX_EXPRESSION_BYTES,
    MAX_INPUT_CHARS,
    MAX_INPUT_DEPTH,
    MAX_INPUT_VALUES,
    MAX_INT_BITS,
    MAX_PATTERN_CHARS,
    MAX_STEPS,
)
from durable_nb.engine.cel.source import Source
from durable_nb.errors import ExpressionError

__all__ = [
    "CACHED_EXPRESSIONS",
    "MAX_DEPTH",
    "MAX_EXPRESSION_BYTES",
    "MAX_INPUT_CHARS",
    "MAX_INPUT_DEPTH",
    "MAX_INPUT_VALUES",
    "MAX_INT_BITS",
    "MAX_PATTERN_CHARS",
    "MAX_STEPS",
    "VARIABLES",
    "Filter",
    "compile_filter",
    "evaluate",
]


def compile_filter(expression: str) -> Filter:
    """Compile a CEL expression, or give the one compiled before. An empty or blank one is always true.

    The module's docstring lists what an expression may hold and how large it may be.

    Raises:
        ExpressionError: it does not compile, is too long or too deep, or names what is not there.

    Example:
        >>> compile_filter("input.user_id == 42").matches(input={"user_id": 42.0})
        True
    """
    size = len(expression.encode("utf-8", "surrogatepass"))
    if size > MAX_EXPRESSION_BYTES:
        raise ExpressionError(
            f"The CEL expression `{shorten(expression)}` has {size:,} bytes, more than the {MAX_EXPRESSION_BYTES:,} allowed: "
            "shorten it, or do this check in the task."
        )
    return _compile(expression)


def evaluate(expression: str, **variables: object) -> object:
    """Evaluate an expression on JSON values and give its result as a plain JSON value, to try a filter out.

    Args:
        expression: the CEL text.
        **variables: any of `input`, `output`, `additional_metadata`, `event_key`, `scope`, `payload`.

    Raises:
        ExpressionError: it does not compile, or a variable is given that no filter has.
        ExpressionEvaluationError: it failed on these values.

    Example:
        >>> evaluate("input.ids.filter(i, i > 1)", input={"ids": [1, 2, 3]})
        [2, 3]
    """
    unknown = sorted(variables.keys() - set(VARIABLES))
    if unknown:
        raise ExpressionError(f"A filter has no variable `{unknown[0]}`: give {listed(VARIABLES)}.")
    return compile_filter(expression).value(variables)


@lru_cache(maxsize=CACHED_EXPRESSIONS)
def _compile(expression: str) -> Filter:
    if not expression.strip():
        return Filter(expression)
    try:
        source = Source(expression)
        compiler = Compiler(source)
        tree = parse(source)
        root = compiler.build(tree, {})
        equalities = equalities_of(tree, compiler)
    except RecursionError:
        raise ExpressionError(f"The CEL expression `{shorten(expression)}` nests too deep: split it, or flatten it.") from None
    return Filter(expression, root, compiler.macro_levels, equalities)
