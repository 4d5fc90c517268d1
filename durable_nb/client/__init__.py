"""What a person holds: `Durable`, with `durable.event` and `durable.runs`."""

from durable_nb.client.app import DEFAULT_LOG, LOG_VARIABLE, Durable

__all__ = ["DEFAULT_LOG", "LOG_VARIABLE", "Durable"]
