"""Times that rows cannot hold: refused as the argument they were given in, before anything is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mastra_convex import ConvexStore, InvalidArgument

BEYOND: list[Any] = [
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:00:00-12:00",
]
"""In the years 1 to 9999 where they were written, and not in UTC."""

CALLS: dict[str, Callable[[ConvexStore, Any], Any]] = {
    "thread.created_at": lambda s, at: s.memory.save_thread(thread={"id": "t", "resource_id": "r", "created_at": at}),
    "messages.created_at": lambda s, at: s.memory.save_messages(
        messages=[{"id": "m", "thread_id": "t", "resource_id": "r", "role": "user", "content": "x", "created_at": at}]
    ),
    "created_at": lambda s, at: s.memory.update_messages(messages=[{"id": "m", "created_at": at}]),
    "date_range.start": lambda s, at: s.memory.list_messages(thread_id="t", filter={"date_range": {"start": at}}),
    "date_range.end": lambda s, at: s.memory.list_messages(
        thread_id="t", filter={"date_range": {"end": at, "end_exclusive": True}}
    ),
    "start_date": lambda s, at: s.memory.clone_thread(source_thread_id="t", options={"message_filter": {"start_date": at}}),
    "resource.updated_at": lambda s, at: s.memory.save_resource(resource={"id": "r", "updated_at": at}),
    "from_date": lambda s, at: s.workflows.list_workflow_runs(from_date=at),
    "updated_at": lambda s, at: s.workflows.persist_workflow_snapshot(
        workflow_name="w", run_id="r", snapshot={}, updated_at=at
    ),
    "score.created_at": lambda s, at: s.scores.save_score(score={"scorer_id": "s", "score": 1, "created_at": at}),
    "filter.from_date": lambda s, at: s.background_tasks.list_tasks(filter={"from_date": at}),
    "update.started_at": lambda s, at: s.background_tasks.update_task(task_id="t", update={"started_at": at}),
    "installation.created_at": lambda s, at: s.channels.save_installation(
        installation={"id": "i", "platform": "p", "agent_id": "a", "status": "active", "data": {}, "created_at": at}
    ),
}


@pytest.mark.parametrize("argument", CALLS)
def test_a_time_that_utc_does_not_have_is_refused_by_name(argument: str) -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store:
        for moment in BEYOND:
            with pytest.raises(InvalidArgument, match="the years 1 to 9999 of UTC") as caught:
                CALLS[argument](store, moment)
            assert caught.value.argument == argument


def test_a_range_may_begin_and_end_with_the_last_moment_there_is() -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store:
        last = datetime.max.replace(tzinfo=UTC)
        store.memory.save_messages(
            messages=[{"id": "m", "thread_id": "t", "resource_id": "r", "role": "user", "content": "x", "created_at": last}]
        )
        for range_, count in (
            ({"start": last}, 0),  # stored it is cut off to a millisecond, which is earlier
            ({"start": last.replace(microsecond=999_000)}, 1),
            ({"start": last.replace(microsecond=999_000), "start_exclusive": True}, 0),
            ({"end": last}, 1),
            ({"end": last, "end_exclusive": True}, 1),
            ({"end": last.replace(microsecond=999_000), "end_exclusive": True}, 0),
        ):
            filter: Any = {"date_range": range_}
            page = store.memory.list_messages(thread_id="t", filter=filter)
            assert page.total == count, range_
