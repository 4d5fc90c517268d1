"""A definition's options come back from the log as they were declared."""

from __future__ import annotations

from durable_nb.notebook.session import _options_json, _options_of
from durable_nb.tasks.options import make_options


def test_what_steers_a_run_survives_being_kept() -> None:
    options = make_options("durable_task", {"cancel_grace": "2m", "deadline": "1d", "on_exhausted": "park", "retries": 2})
    assert (options.cancel_grace, options.deadline, options.on_exhausted) == (120.0, 86400.0, "park")
    assert _options_of(_options_json("durable_task", "home", options)) == ("durable_task", options)
