"""Convex's own tables as models, to be read: its files (`StoredFile`) and its scheduled functions (`ScheduledFunction`).

Convex writes them itself; what a session is asked to write to them is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from convexorm.mapping.expressions import Mapped
from convexorm.mapping.model import Model, field

__all__ = ["ScheduledFunction", "StoredFile"]


class StoredFile(Model, table="_storage"):
    """A file, as `deployment.files` stores it. Its `convex_id` is the file's id, its `sha256` in hex or base64."""

    sha256: Mapped[str]
    size: Mapped[int]
    content_type: Mapped[str | None] = field(name="contentType", default=None)


class ScheduledFunction(Model, table="_scheduled_functions"):
    """A function that is to run, runs or has run; Convex forgets it 7 days after it has ended."""

    name: Mapped[str]
    args: Mapped[list[Any]]
    scheduled_time: Mapped[datetime] = field(name="scheduledTime")
    completed_time: Mapped[datetime | None] = field(name="completedTime", default=None)
    state: Mapped[dict[str, Any]]

    @property
    def path(self) -> str:
        """The function's path, such as `emails:send`."""
        return self.name.replace(".js:", ":").removesuffix(":default")

    @property
    def kind(self) -> str:
        """`pending`, `inProgress`, `success`, `failed` or `canceled`."""
        return str(self.state["kind"])

    @property
    def error(self) -> str | None:
        """What a function that failed has thrown."""
        found = self.state.get("error")
        return None if found is None else str(found)
