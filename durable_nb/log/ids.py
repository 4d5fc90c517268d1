"""Ids: 26 characters that sort by time of making, as the ULID specification (github.com/ulid/spec) has them."""

from __future__ import annotations

import os
import random
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32

# Our own, since a notebook may seed the module's; asking the system for each id would give away the interpreter each time.
RANDOM = random.Random()  # noqa: S311  an id is no secret
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RANDOM.seed)


def new_id() -> str:
    """Give a fresh id: 48 bits of milliseconds, then 80 random bits.

    >>> len(new_id()), new_id() != new_id()
    (26, True)
    """
    bits = (time.time_ns() // 1_000_000) << 80 | RANDOM.getrandbits(80)
    return "".join([ALPHABET[bits >> shift & 31] for shift in range(125, -1, -5)])
