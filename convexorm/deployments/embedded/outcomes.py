"""What became of commits, for as long as somebody holds them.

A session that was interrupted asks what became of the commit it holds, and nobody else knows of that one: a commit whose
answer others ask for, in another process perhaps, is `lasting`, and stands in the ledger. Everything here happens while its
caller has the right to write.
"""

from __future__ import annotations

from weakref import ref

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.ledger import Remembered, withdrawn
from convexorm.requests import Applied, Commit

__all__ = ["Outcomes"]


class _Outcome(ref[Commit]):
    """What a commit was answered, None if it was withdrawn; unless its transaction was `lost`."""

    __slots__ = ("answer", "id", "lost")

    id: str
    answer: list[Applied] | None
    lost: bool


class Outcomes:
    """What one process knows of its commits."""

    def __init__(self) -> None:
        self._known: dict[str, _Outcome] = {}

    def recall(self, connection: Connection, commit: Commit) -> list[Applied] | None:
        """What was answered to a commit; None if it is new. Raises InvalidRequestError for one that was withdrawn."""
        known = self._of(commit)
        if known is not None and known.answer is None:
            raise withdrawn()
        return None if known is None else known.answer

    def remember(self, connection: Connection, commit: Commit, results: list[Applied]) -> None:
        """Know the answer to a commit, unless the open transaction is lost. Raises Remembered if there is one already."""
        if self._of(commit) is not None:
            raise Remembered
        connection.landing = outcome = self._outcome(commit, results)  # first, so that it is lost with the transaction
        self._known[commit.id] = outcome

    def withdraw(self, connection: Connection, commit: Commit) -> list[Applied] | None:
        """The answer to a commit that was applied; else None, and it will not be applied when it arrives."""
        known = self._of(commit)
        if known is None:
            self._known[commit.id] = self._outcome(commit, None)
        return None if known is None else known.answer

    def _of(self, commit: Commit) -> _Outcome | None:
        known = self._known.get(commit.id)
        return None if known is None or known.lost else known

    def _outcome(self, commit: Commit, answer: list[Applied] | None) -> _Outcome:
        outcome = _Outcome(commit, self._forget)
        outcome.id, outcome.answer, outcome.lost = commit.id, answer, False
        return outcome

    def _forget(self, outcome: _Outcome) -> None:
        if self._known.get(outcome.id) is outcome:
            del self._known[outcome.id]
