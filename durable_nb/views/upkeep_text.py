"""What was found in a log and what was removed from it, in words: for magics and commands alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from durable_nb.views.words import brief, counted, visible

if TYPE_CHECKING:
    from durable_nb.engine.sweeping import Removed
    from durable_nb.log.doctor import Report

MIB = 2**20


def report_lines(report: Report) -> Iterator[str]:
    """Give a report of `doctor` line by line: how large the log is, then what was found, the worst first."""
    facts = report.facts
    if facts:
        yield (
            f"{counted(facts['runs'], 'run')}, {facts['unfinished']} unfinished, {counted(facts['events'], 'event')}; "
            f"{facts['bytes'] / MIB:.1f} MiB, {facts['free_bytes'] / MIB:.1f} of them free, and {facts['wal_bytes'] / MIB:.1f} "
            "in the write-ahead log."
        )
    for finding in report.findings:
        yield f"{finding.kind}: {visible(finding.text)}" + (f" (run {brief(finding.run_id)})" if finding.run_id else "")
    if not report.findings:
        yield "Nothing is damaged, stuck or slow."


def removed_line(removed: Removed) -> str:
    """Give what `gc` has removed, or would remove."""
    what = f"{counted(removed.trees, 'run')} with all below them ({removed.runs} in all), and {counted(removed.events, 'event')}"
    return f"Would remove {what}; nothing was changed." if removed.is_dry_run else f"Removed {what}."
