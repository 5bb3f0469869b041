"""Schedules: when workflows and agents run, who fires them next, and what came of each firing.

Several processes poll one table. Each lists what is due and claims a fire by moving `next_fire_at` on, which one of them
can: `update_schedule_next_fire` is a compare-and-set to a later time. Times are JavaScript milliseconds; arguments may be
aware datetimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar
from uuid import uuid4

from convexorm import AsyncSession, Condition, LimitExceeded, Query, StaleDataError
from convexorm.faces import blocking
from mastra_convex.arguments import (
    MAX_SAFE_INTEGER,
    check_choice,
    check_id,
    check_keys,
    check_limit,
    check_mapping,
    check_milliseconds,
    check_optional_id,
    check_options,
    naming,
)
from mastra_convex.cron import CronError, CronPattern, timezone_of
from mastra_convex.domain import AsyncDomain, Domain
from mastra_convex.entities import Schedule, ScheduleTrigger
from mastra_convex.errors import InvalidArgument, ScheduleAlreadyExists, ScheduleNotFound, ScheduleTriggerAlreadyExists
from mastra_convex.instants import now as moment
from mastra_convex.records import record_of
from mastra_convex.targets import check_target, workflow_of

__all__ = ["AsyncSchedules", "ScheduleFilter", "ScheduleUpdate", "Schedules", "TriggerListOptions"]

T = TypeVar("T")

ScheduleStatus: TypeAlias = Literal["active", "paused"]

_STATUSES = ("active", "paused")
_DELETED_AT_ONCE = 3_000
"""Triggers of an earlier schedule deleted in one commit, where they are more than one commit deletes."""
_KINDS = ("schedule-fire", "queue-drain", "manual")
_OUTCOMES = (
    *("published", "failed"),
    *("succeeded", "delivered", "persisted", "discarded", "skipped", "aborted"),
    *("acked", "alerted", "deferred", "appended-from-queue", "dropped-stale", "dropped-superseded", "dropped-busy"),
)
"""What can come of a firing: of any target, of an agent, and what older versions wrote."""


class ScheduleFilter(TypedDict, total=False):
    """Which schedules. An owner of None means those without one."""

    status: ScheduleStatus
    workflow_id: str
    owner_type: str | None
    owner_id: str | None


class ScheduleUpdate(TypedDict, total=False):
    """What of a schedule to change. A key that is not there keeps what is stored; None clears it where that is possible."""

    cron: str
    timezone: str | None
    status: ScheduleStatus
    next_fire_at: int | datetime
    target: Mapping[str, Any]
    metadata: Mapping[str, Any] | None
    owner_type: str | None
    owner_id: str | None


class TriggerListOptions(TypedDict, total=False):
    """`from_actual_fire_at` belongs to the range, `to_actual_fire_at` does not. Without `limit` all are answered."""

    limit: int
    from_actual_fire_at: int | datetime
    to_actual_fire_at: int | datetime


class AsyncSchedules(AsyncDomain):
    """Schedules and their triggers, awaited. `Schedules` is the same, blocking."""

    async def create_schedule(self, *, schedule: Schedule | Mapping[str, Any]) -> Schedule:
        """Store a new schedule. Raises ScheduleAlreadyExists for a taken id.

        `target` is what fires, under the contract's names (`workflowId`, `inputData`). `cron` is a pattern as Mastra's
        scheduler reads it, `timezone` a name of the IANA database. `status` defaults to "active", timestamps to now. The
        history begins empty: triggers that were recorded for an earlier schedule with this id are deleted.
        """
        operation = "CREATE_SCHEDULE"
        started = _now()
        with naming(operation, "schedule"):
            record = record_of(
                operation, "schedule", Schedule, schedule, status="active", created_at=started, updated_at=started
            )
            for name, value in _checked_fields(operation, "schedule", _values(record)).items():
                setattr(record, name, value)
            async with self._session() as session:
                try:
                    await _create(session, record)
                except StaleDataError as error:
                    raise ScheduleAlreadyExists(record.id, operation=operation) from error
        return record

    async def get_schedule(self, *, id: str) -> Schedule | None:
        """The schedule, or None."""
        check_id("GET_SCHEDULE", "id", id)
        async with self._session() as session:
            return await session.get(Schedule, id)

    async def list_schedules(self, *, filter: ScheduleFilter | None = None) -> list[Schedule]:
        """All schedules that match, the oldest first."""
        conditions = _checked_filter("LIST_SCHEDULES", filter)
        query = Schedule.query().where(*conditions) if conditions else Schedule.query().by_index("by_created")
        async with self._session() as session:
            schedules = await session.all(query)
        return sorted(schedules, key=lambda one: (one.created_at, one.creation_time))

    async def list_due_schedules(self, *, now: int | datetime, limit: int | None = None) -> list[Schedule]:
        """The active schedules whose next fire is not after `now`, the longest due first. Only those are read."""
        operation = "LIST_DUE_SCHEDULES"
        until = check_milliseconds(operation, "now", now)
        check_limit(operation, "limit", limit)
        if limit == 0:
            return []
        due = Schedule.query().by_index("by_status_next_fire_at", Schedule.next_fire_at <= until, status="active")
        async with self._session() as session:
            return await session.all(due.limit(limit))

    async def update_schedule(self, *, id: str, patch: ScheduleUpdate) -> Schedule:
        """Change some of a schedule and answer all of it. An empty patch changes nothing. Raises ScheduleNotFound.

        Concurrent patches of different attributes, and claims, are all kept. A schedule that is resumed is not due for
        the time it was paused: without a `next_fire_at` in the patch it fires next when its pattern says so after now.
        """
        operation = "UPDATE_SCHEDULE"
        check_id(operation, "id", id)
        given = check_keys(operation, "patch", patch, tuple(ScheduleUpdate.__annotations__))
        values = _checked_fields(operation, "patch", given)

        async def update(session: AsyncSession) -> Schedule:
            schedule = await session.get(Schedule, id)
            if schedule is None:
                raise ScheduleNotFound(id, operation=operation)
            if not values:
                return schedule
            resumed = schedule.status == "paused" and values.get("status") == "active" and "next_fire_at" not in values
            for name, value in values.items():
                setattr(schedule, name, value)
            if resumed and schedule.next_fire_at <= _now():
                schedule.next_fire_at = _next_fire(operation, schedule)
            schedule.updated_at = _later(schedule)
            return schedule

        async with self._session() as session:
            with naming(operation, "patch"):
                return await session.transact(update)

    async def update_schedule_next_fire(
        self,
        *,
        id: str,
        expected_next_fire_at: int | datetime,
        new_next_fire_at: int | datetime,
        last_fire_at: int | datetime,
        last_run_id: str,
    ) -> bool:
        """Claim a fire: move `next_fire_at` on if it is still the expected one, and say whether that was done.

        One conditional write, so of all callers that expect the same fire one is told True. False too for a schedule that
        is paused or not there. The new time is later than the expected one, else it is an InvalidArgument: a claim of a
        fire that is over must find another time than its own.
        """
        operation = "UPDATE_SCHEDULE_NEXT_FIRE"
        check_id(operation, "id", id)
        expected = check_milliseconds(operation, "expected_next_fire_at", expected_next_fire_at)
        new = check_milliseconds(operation, "new_next_fire_at", new_next_fire_at)
        values = {
            "next_fire_at": new,
            "last_fire_at": check_milliseconds(operation, "last_fire_at", last_fire_at),
            "last_run_id": check_id(operation, "last_run_id", last_run_id),
        }
        if new <= expected:
            raise InvalidArgument(
                "later than expected_next_fire_at, or the claim could be made again",
                operation=operation,
                argument="new_next_fire_at",
            )
        held = {"status": "active", "next_fire_at": expected}

        async def claim(session: AsyncSession) -> bool:
            schedule = await session.get(Schedule, id)
            if schedule is None or any(getattr(schedule, name) != value for name, value in held.items()):
                return False
            expectation = {**held, "updated_at": schedule.updated_at}
            session.update(Schedule, id, {**values, "updated_at": _later(schedule)}, expected=expectation)
            return True

        async with self._session() as session:
            with naming(operation, "last_run_id"):
                return await session.transact(claim)

    async def delete_schedule(self, *, id: str) -> None:
        """Delete the schedule and its triggers; nothing happens where there is none.

        One atomic commit for up to 4,000 triggers (6 MiB). Of more the schedule goes first, and cannot be claimed any
        more; then the triggers go in several commits. What a deletion that was cut off left of them another one deletes,
        as does a new schedule with this id.
        """
        check_id("DELETE_SCHEDULE", "id", id)
        triggers = _history(id)
        async with self._session() as session:
            session.delete_range(triggers)
            session.delete_key(Schedule, id)
            try:
                await session.commit()
            except LimitExceeded:
                session.rollback()
                session.delete_key(Schedule, id)
                await session.commit()
                await session.delete_all(triggers)

    async def record_trigger(self, *, trigger: ScheduleTrigger | Mapping[str, Any]) -> None:
        """Add to a schedule's history what came of a firing. Raises ScheduleTriggerAlreadyExists for a taken id.

        For a schedule that is gone it is kept until there is a new one with its id. `id` defaults to a new one,
        `trigger_kind` to "schedule-fire".
        """
        operation = "RECORD_TRIGGER"
        with naming(operation, "trigger"):
            record = record_of(
                operation, "trigger", ScheduleTrigger, trigger, id=str(uuid4()), trigger_kind="schedule-fire"
            )
            check_id(operation, "trigger.schedule_id", record.schedule_id)
            check_choice(operation, "trigger.outcome", record.outcome, _OUTCOMES)
            check_choice(operation, "trigger.trigger_kind", record.trigger_kind, _KINDS)
            for name, value in _checked_fields(operation, "trigger", _values(record)).items():
                setattr(record, name, value)
            async with self._session() as session:
                session.add(record, returning=False)
                try:
                    await session.commit()
                except StaleDataError as error:
                    raise ScheduleTriggerAlreadyExists(record.id, operation=operation) from error

    async def list_triggers(self, *, schedule_id: str, opts: TriggerListOptions | None = None) -> list[ScheduleTrigger]:
        """A schedule's history, the newest firing first. Only what is answered is read."""
        operation = "LIST_TRIGGERS"
        check_id(operation, "schedule_id", schedule_id)
        given = check_options(operation, "opts", opts, tuple(TriggerListOptions.__annotations__))
        limit = check_limit(operation, "opts.limit", given.get("limit"))
        fired, bounds = ScheduleTrigger.actual_fire_at, []
        if given.get("from_actual_fire_at") is not None:
            bounds.append(fired >= check_milliseconds(operation, "opts.from_actual_fire_at", given["from_actual_fire_at"]))
        if given.get("to_actual_fire_at") is not None:
            bounds.append(fired < check_milliseconds(operation, "opts.to_actual_fire_at", given["to_actual_fire_at"]))
        if limit == 0:
            return []
        query = ScheduleTrigger.query().by_index("by_schedule_actual", *bounds, schedule_id=schedule_id)
        async with self._session() as session:
            return await session.all(query.order("desc").limit(limit))

    async def dangerously_clear_all(self) -> None:
        """Delete every schedule and trigger, in as many commits as it takes."""
        async with self._session() as session:
            await session.delete_all(ScheduleTrigger.query().full_scan())
            await session.delete_all(Schedule.query().full_scan())


class Schedules(Domain):
    """Schedules and their triggers, blocking. `AsyncSchedules` is the same, awaited."""

    face = AsyncSchedules

    create_schedule = blocking(AsyncSchedules.create_schedule)
    get_schedule = blocking(AsyncSchedules.get_schedule)
    list_schedules = blocking(AsyncSchedules.list_schedules)
    list_due_schedules = blocking(AsyncSchedules.list_due_schedules)
    update_schedule = blocking(AsyncSchedules.update_schedule)
    update_schedule_next_fire = blocking(AsyncSchedules.update_schedule_next_fire)
    delete_schedule = blocking(AsyncSchedules.delete_schedule)
    record_trigger = blocking(AsyncSchedules.record_trigger)
    list_triggers = blocking(AsyncSchedules.list_triggers)
    dangerously_clear_all = blocking(AsyncSchedules.dangerously_clear_all)


# -- histories -----------------------------------------------------------------------------------------------------


def _history(id: str) -> Query[ScheduleTrigger]:
    return ScheduleTrigger.query().by_index("by_schedule_actual", schedule_id=id)


async def _create(session: AsyncSession, record: Schedule) -> None:
    """Insert the schedule, and delete the history that another one with its id has left, in the same commit.

    Where that is more than one commit deletes, some of it goes at a time, each in a commit that would fail if there were
    such a schedule: it inserts it and takes it out again.
    """
    while True:
        session.add(record, returning=False)
        session.delete_range(_history(record.id))
        try:
            return await session.commit()
        except LimitExceeded:
            session.rollback()
            if await session.first(_history(record.id)) is None:
                raise
        session.add(Schedule(**_values(record)), returning=False)
        session.delete_range(_history(record.id).limit(_DELETED_AT_ONCE))
        session.delete_key(Schedule, record.id)
        await session.commit()
        session.expunge_all()


# -- checking ------------------------------------------------------------------------------------------------------

_TIMES = ("next_fire_at", "created_at", "updated_at", "scheduled_fire_at", "actual_fire_at")
"""Times that a row always has."""
_IDS = frozenset(("owner_type", "owner_id", "workflow_id", "last_run_id", "run_id", "parent_trigger_id"))
"""What a schedule or a trigger may belong to."""


def _now() -> int:
    return check_milliseconds("NOW", "now", moment())


def _later(schedule: Schedule) -> int:
    """Now, or a millisecond after what is stored where a clock that is ahead has written that; the last moment stays."""
    return min(max(_now(), schedule.updated_at + 1), MAX_SAFE_INTEGER)


def _next_fire(operation: str, schedule: Schedule) -> int:
    """When the schedule's pattern says to fire next, after now."""
    pattern = _checked(operation, "patch.cron", CronPattern.parse, schedule.cron)
    zone = (
        timezone_of(None)
        if schedule.timezone is None
        else _checked(operation, "patch.timezone", timezone_of, schedule.timezone)
    )
    found = pattern.after(moment(), zone)
    if found is None:
        raise InvalidArgument("its cron pattern never comes again", operation=operation, argument="patch.next_fire_at")
    return check_milliseconds(operation, "patch.next_fire_at", found)


def _values(record: Schedule | ScheduleTrigger) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__mapper__.columns}


def _checked_fields(operation: str, argument: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a schedule or trigger as rows hold them, and the workflow that a target brings along."""
    values = dict(given)
    for name in values.keys() & {*_TIMES, "last_fire_at"}:
        if name in _TIMES or values[name] is not None:
            values[name] = check_milliseconds(operation, f"{argument}.{name}", values[name])
    if "cron" in values:
        check_id(operation, f"{argument}.cron", values["cron"])
        _checked(operation, f"{argument}.cron", CronPattern.parse, values["cron"])
    if values.get("timezone") is not None:
        check_id(operation, f"{argument}.timezone", values["timezone"])
        _checked(operation, f"{argument}.timezone", timezone_of, values["timezone"])
    if "status" in values:
        check_choice(operation, f"{argument}.status", values["status"], _STATUSES)
    if "target" in values:
        values["target"] = check_target(operation, f"{argument}.target", values["target"])
        values["workflow_id"] = workflow_of(values["target"])
    if values.get("metadata") is not None:
        check_mapping(operation, f"{argument}.metadata", values["metadata"])
    for name in given.keys() & _IDS:
        check_optional_id(operation, f"{argument}.{name}", given[name])
    return values


def _checked(operation: str, argument: str, check: Callable[[str], T], value: str) -> T:
    try:
        return check(value)
    except CronError as error:
        raise InvalidArgument(str(error), operation=operation, argument=argument) from None


def _checked_filter(operation: str, filter: ScheduleFilter | None) -> list[Condition]:
    given = check_options(operation, "filter", filter, tuple(ScheduleFilter.__annotations__))
    conditions: list[Condition] = []
    if given.get("status") is not None:
        conditions.append(Schedule.status == check_choice(operation, "filter.status", given["status"], _STATUSES))
    if given.get("workflow_id") is not None:
        conditions.append(Schedule.workflow_id == check_id(operation, "filter.workflow_id", given["workflow_id"]))
    for name, column in (("owner_type", Schedule.owner_type), ("owner_id", Schedule.owner_id)):
        if name in given:
            conditions.append(column == check_optional_id(operation, f"filter.{name}", given[name]))
    return conditions
