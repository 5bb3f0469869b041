"""What became of commits, for as long as somebody holds them.

A session that was interrupted asks what became of the commit it holds, and nobody else knows of that one: a commit whose
answer others ask for, in another process perhaps, is `lasting`, and stands in the ledger. What became of any other stands
in the commit itself. Everything here happens while its caller has the right to write.
"""

from __future__ import annotations

from convexorm.data import Draft
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.ledger import Remembered, withdrawn
from convexorm.requests import Applied, Commit

__all__ = ["Outcomes"]


class _Outcome(Draft):
    """What a commit was answered, None if it was withdrawn; unless its transaction was `lost`."""

    answer: list[Applied] | None
    lost: bool = False


class Outcomes:
    """What one deployment knows of the commits that were given to it in this process."""

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
        connection.landing = outcome = _Outcome(results)  # first, so that it is lost with the transaction
        commit.outcomes[self] = outcome

    def withdraw(self, connection: Connection, commit: Commit) -> list[Applied] | None:
        """The answer to a commit that was applied; else None, and it will not be applied when it arrives."""
        known = self._of(commit)
        if known is None:
            commit.outcomes[self] = _Outcome(None)
        return None if known is None else known.answer

    def _of(self, commit: Commit) -> _Outcome | None:
        known: _Outcome | None = commit.outcomes.get(self)
        return None if known is None or known.lost else known
