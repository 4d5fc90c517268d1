"""`durable.rate_limits`."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from durable_nb.client.forms import Group, sync_form
from durable_nb.errors import DeclarationError
from durable_nb.tasks.flow import RateLimitDuration, window_of
from durable_nb.tasks.payload import check_text


@dataclass(frozen=True, slots=True)
class RateLimitView:
    """A rate limit of the log: `limit` units in any `seconds`, of which `used` were used when it was looked at last."""

    key: str
    limit: int
    seconds: float
    used: int


class RateLimits(Group):
    """`durable.rate_limits`: limits that tasks name by `RateLimit(static_key=...)`."""

    async def aio_put(self, key: str, limit: int, duration: RateLimitDuration = RateLimitDuration.SECOND) -> None:
        """Set a rate limit, or change it: at most `limit` units in any window of `duration`. Inside a durable task a checkpoint.

        Raises:
            DeclarationError: the limit is no whole number of 1 or more, or there is no such window.

        Example:
            >>> durable.rate_limits.put("openai", 60, RateLimitDuration.MINUTE)  # doctest: +SKIP
        """
        from durable_nb.engine.asks import ask_of
        from durable_nb.engine.running import recorded
        from durable_nb.log.limits import put_crowd

        check_text(key, of="the key of a rate limit")
        if type(limit) is not int or not 1 <= limit < 2**31:
            raise DeclarationError(f"limit={limit!r}: give a whole number, 1 or more.")
        engine, seconds = self._host.engine, window_of(duration).seconds

        def write(connection: sqlite3.Connection) -> None:
            put_crowd(connection, "rate", "", "", key, most=limit, seconds=seconds)

        async def put() -> None:
            words = f"put rate limit {key}"
            await recorded(engine, lambda line: ask_of("put rate", words, key, limit, seconds, line=line), None, write)
            engine.dispatcher.look()

        await self._on_loop(put)

    put = sync_form(aio_put)

    async def aio_list(self) -> list[RateLimitView]:
        """Give the rate limits of the log, those of dynamic keys too."""

        def read(connection: sqlite3.Connection) -> list[RateLimitView]:
            rows = connection.execute("SELECT key, most, seconds, used FROM crowd WHERE kind = 'rate' ORDER BY key")
            return [RateLimitView(*row) for row in rows]

        engine = self._host.engine
        return await self._on_loop(lambda: engine.reader.run(read))

    list = sync_form(aio_list)
