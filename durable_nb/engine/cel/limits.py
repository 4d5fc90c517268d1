"""Every limit that a user can meet, in one place.

Invariant: a limit is a size or a count, never a time, so it is met by the same expression and values on every machine.
"""

from __future__ import annotations

from typing import Final

MAX_EXPRESSION_BYTES: Final = 8 * 1024
"""An expression's length in UTF-8."""
MAX_DEPTH: Final = 64
"""How deep an expression may nest."""
MAX_STEPS: Final = 100_000
"""The budget of one evaluation."""
MAX_INPUT_VALUES: Final = 100_000
"""Values in all variables of one evaluation together."""
MAX_INPUT_CHARS: Final = 4 * 1024 * 1024
"""Characters in all their strings and keys together."""
MAX_INPUT_DEPTH: Final = 100
"""How deep lists and maps may nest in a variable."""
MAX_INT_BITS: Final = 256
"""How wide an integer in a variable may be."""
MAX_PATTERN_CHARS: Final = 1024
"""The length of a regular expression."""
CACHED_EXPRESSIONS: Final = 16_384
"""How many compiled expressions are kept for their next use."""
