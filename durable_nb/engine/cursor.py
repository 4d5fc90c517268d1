"""The replay cursor: what the code asks now against what the log has recorded. Pure: no clock, no database, no event loop.

Identity is position plus fingerprint. Outcomes are handed out in the order of their sequence numbers, replayed and live
alike; that order alone makes gather, TaskGroup, wait and as_completed ask the same again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from durable_nb.errors import NonDeterminismError
from durable_nb.log.records import CANCEL, Ask, Completion, Cut, Outcome, Recorded

NOBODY = -1  # nodes begin at 1, and a cancel is 0


class Cursor:
    """One pass over a run's recorded checkpoints, followed by live ones.

    Args:
        recorded: the checkpoints of the branch's lineage, as one snapshot of the log has them.
        branch: the branch that live checkpoints belong to.
        seeds: what chance is drawn from, each with the first node that it is for.
        since: outcomes up to this sequence number belong to what was before.

    >>> cursor = Cursor([])
    >>> cursor.ask(Ask(kind="sleep", words="sleep 5s", fingerprint=b"5")), cursor.next_node
    ((1, None), 2)
    """

    def __init__(
        self, recorded: Iterable[Recorded], *, branch: int = 1, seeds: Sequence[tuple[int, str]] = (), since: int = 0
    ) -> None:
        self._branch = branch
        self._seeds = seeds
        self._recorded = {checkpoint.node: checkpoint for checkpoint in recorded}
        self._unasked = set(self._recorded)
        self._last_recorded = max(self._recorded, default=0)
        self._arrived: list[tuple[int, int, int, Outcome]] = [  # seq, the node that must have been asked, whose it is, outcome
            (checkpoint.seq, checkpoint.node, checkpoint.node, checkpoint.outcome)
            for checkpoint in self._recorded.values()
            if checkpoint.seq is not None and checkpoint.outcome is not None
        ]
        heapq.heapify(self._arrived)
        self._recorded_seq = max((arrived[0] for arrived in self._arrived), default=since)
        # node -> its outcome's sequence number, and the first node that was not asked yet when that was delivered
        self._delivered: dict[int, tuple[int, int]] = {}
        self._known = {arrived[0] for arrived in self._arrived}
        self._read_up_to = self._recorded_seq  # no lower sequence number is still to come
        self._first_fresh: tuple[int, str] | None = None
        self.next_node = 1
        self.after_failure: int | None = None  # from this node on, what is asked follows from a failure
        self.delivered_seq = since
        self.diverged: NonDeterminismError | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether recorded work lies ahead: then log, print and progress are muted."""
        return self.next_node <= self._last_recorded or self.delivered_seq < self._recorded_seq

    @property
    def first_fresh(self) -> tuple[int, str] | None:
        """The first node that was asked beyond what was recorded when the pass began, in words; None if there is none."""
        return self._first_fresh

    @property
    def seed_here(self) -> str:
        """What chance is drawn from before the next node: the same, whether that is recorded already or not."""
        return next((seed for node, seed in reversed(self._seeds) if node <= self.next_node), "")

    def ask(self, ask: Ask) -> tuple[int, Recorded | None]:
        """Take the next node for an ask; give it with what is recorded there.

        Raises:
            NonDeterminismError: something else is recorded there; raised again at every further ask.
        """
        if self.diverged:
            raise self.diverged
        node = self.next_node
        recorded = self._recorded.get(node)
        if recorded is not None and (recorded.kind, recorded.fingerprint) != (ask.kind, ask.fingerprint):
            expected, received = recorded.ask, ask.words
            if expected == received:
                expected, received = f"{expected} ({recorded.kind})", f"{received} ({ask.kind})"
            self.diverged = NonDeterminismError(node, expected, received)
            raise self.diverged
        if recorded is None and self._first_fresh is None:
            self._first_fresh = node, ask.words
        self.next_node += 1
        self._unasked.discard(node)
        return node, recorded

    def is_given_up(self, node: int) -> bool:
        """Whether the log has it already that the run's code stopped waiting for a node."""
        return node in self._recorded and self._recorded[node].abandoned

    def finish(self) -> None:
        """Check, when the function has returned, that everything recorded was asked.

        Raises:
            NonDeterminismError: the code that is replayed now asks less than what was recorded.
        """
        if self.diverged:
            raise self.diverged
        if self._unasked:
            node = min(self._unasked)
            raise NonDeterminismError(node, self._recorded[node].ask, "nothing more (the function returned)")

    def starve(self) -> NonDeterminismError | None:
        """Give the divergence of a run that is at rest while the next outcome belongs to a node that it never asked for."""
        if self._arrived and self._arrived[0][1] >= self.next_node:
            node = self._arrived[0][1]
            recorded = self._recorded.get(node)
            self.diverged = NonDeterminismError(
                node, recorded.ask if recorded else "a later checkpoint", "nothing there (it waits for earlier ones)"
            )
            return self.diverged
        return None

    def arrive(self, completion: Completion) -> None:
        """Take in an outcome that was committed, once; one of a branch that was left is delivered in its turn to nobody."""
        if completion.seq <= self.delivered_seq or completion.seq in self._known:
            return
        recorded = self._recorded.get(completion.node)
        is_ours = completion.branch == (recorded.branch if recorded else self._branch)
        node = needs = completion.node if is_ours else NOBODY
        if node == CANCEL:  # told after everything that was asked when it was told before
            needs = self._last_recorded if completion.after is None else completion.after
        self._known.add(completion.seq)
        heapq.heappush(self._arrived, (completion.seq, needs, node, completion.outcome))

    def next_delivery(self) -> tuple[int, Outcome] | None:
        """Give the next outcome whose node has been asked (or is `NOBODY` or `CANCEL`), or None.

        The caller sees that the run is at rest.
        """
        if not self._arrived or self._arrived[0][1] >= self.next_node:
            return None
        seq, _, node, outcome = heapq.heappop(self._arrived)
        self._known.discard(seq)
        self.delivered_seq = seq
        self._delivered[node] = seq, self.next_node
        return node, outcome

    def has_gap(self) -> bool:
        """Whether a lower sequence number than the next one may have been written by another process."""
        return bool(self._arrived) and self._arrived[0][0] > max(self.delivered_seq, self._read_up_to) + 1

    def skip_gap(self) -> None:
        """Take it that the log was read and no lower number concerns this branch."""
        if self._arrived:
            self._read_up_to = max(self._read_up_to, self._arrived[0][0] - 1)

    def cut_for_retry(self, failed: Iterable[int]) -> Cut:
        """Give what a retry asks afresh, after an error that came from the failures of these nodes, or from none.

        The branch is cut where the first of them was delivered: what was asked before stays, what was asked after goes. Of what
        stays, other failures that were recorded after that one are asked afresh as well: the code that is replayed has not
        seen them yet. Successes are kept whenever they came.
        """
        nodes = [node for node in failed if node in self._delivered]
        if not nodes:
            return Cut(None, undone_from=self.delivered_seq + 1)
        seq, cut = min(self._delivered[node] for node in nodes)
        return Cut(cut, sorted(node for node in nodes if node < cut), seq)

    def drop_for_retry(self, failed: Iterable[int]) -> Cut:
        """As `cut_for_retry`, for a program in which a failure leads to no ask below `after_failure`: all else there is kept."""
        cut = self.next_node if self.after_failure is None else self.after_failure
        nodes = sorted({node for node in failed if node in self._delivered and node < cut})
        return Cut(cut if nodes else None, nodes, self.delivered_seq + 1)
