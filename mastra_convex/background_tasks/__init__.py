"""The background tasks domain: tool calls that go on behind an agent, from when they are queued until they are gone."""

from __future__ import annotations

from datetime import timedelta

from convexorm.faces import blocking, shared
from mastra_convex.background_tasks.claims import AsyncClaims, Claims
from mastra_convex.background_tasks.listing import TaskFilter, TaskList
from mastra_convex.background_tasks.tasks import AsyncBackgroundTasks, TaskUpdate, TaskUpdateOptions
from mastra_convex.domain import Domain
from mastra_convex.entities import TaskStatus

__all__ = [
    "AsyncBackgroundTasks",
    "AsyncClaims",
    "BackgroundTasks",
    "Claims",
    "TaskFilter",
    "TaskList",
    "TaskStatus",
    "TaskUpdate",
    "TaskUpdateOptions",
]


class BackgroundTasks(Domain):
    """Background tasks, blocking. `AsyncBackgroundTasks` is the same, awaited."""

    face = AsyncBackgroundTasks

    def claim(self, *, tool_name: str | None = None, lease: timedelta = timedelta(seconds=60)) -> Claims:
        return Claims(self._core.claim(tool_name=tool_name, lease=lease))

    claim.__doc__ = (AsyncBackgroundTasks.claim.__doc__ or "").replace("async for", "for")

    create_task = blocking(AsyncBackgroundTasks.create_task)
    update_task = blocking(AsyncBackgroundTasks.update_task)
    get_task = blocking(AsyncBackgroundTasks.get_task)
    list_tasks = blocking(AsyncBackgroundTasks.list_tasks)
    watch_tasks = shared(AsyncBackgroundTasks.watch_tasks)
    delete_task = blocking(AsyncBackgroundTasks.delete_task)
    delete_tasks = blocking(AsyncBackgroundTasks.delete_tasks)
    get_running_count = blocking(AsyncBackgroundTasks.get_running_count)
    get_running_count_by_agent = blocking(AsyncBackgroundTasks.get_running_count_by_agent)
    dangerously_clear_all = blocking(AsyncBackgroundTasks.dangerously_clear_all)
