"""Ids: 26 characters that sort by time of making, as the ULID specification (github.com/ulid/spec) has them."""

from __future__ import annotations

import os
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32


def new_id() -> str:
    """Give a fresh id: 48 bits of milliseconds, then 80 random bits.

    >>> len(new_id()), new_id() != new_id()
    (26, True)
    """
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join([ALPHABET[bits >> shift & 31] for shift in range(125, -1, -5)])
