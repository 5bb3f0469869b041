"""`Writer`: commits of what a session writes in several, each settled before the next."""

from __future__ import annotations

from contextlib import suppress

from convexorm.deployments.base import Port
from convexorm.errors import ConvexORMError, DeploymentError, FunctionFailed, LimitExceeded
from convexorm.requests import Applied, Commit

__all__ = ["Writer", "less"]


class Writer:
    """Writes through one port."""

    def __init__(self, port: Port) -> None:
        self._port = port

    async def commit(self, commit: Commit) -> list[Applied]:
        """Apply a commit. Where its answer is lost, find out what became of it: what is raised then was not applied, and
        never will be, unless that could not be found out either (`lost`).
        """
        try:
            return await self._port.commit(commit)
        except ConvexORMError as error:
            if not error.lost and (not isinstance(error, DeploymentError) or isinstance(error, FunctionFailed)):
                raise  # an answer
            with suppress(ConvexORMError):
                applied = await self._port.withdraw(commit)
                if applied is not None:
                    return applied
                error.lost = False
            raise

    async def settle(self, commit: Commit) -> list[Applied] | None:
        """The answer to a commit of long ago, if it was applied; else None, and it never will be."""
        return await self._port.withdraw(commit)


def less(size: int, error: LimitExceeded | FunctionFailed, part: int = 2) -> int:
    """How many of `size` to go on with, after a commit of so many was refused whole; raises the error where it says nothing
    of how much that was, or less is not to be had.
    """
    if size <= 1 or (isinstance(error, FunctionFailed) and not error.too_much):
        raise error
    return max(size // part, 1)
