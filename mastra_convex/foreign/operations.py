"""Changes for which the handler has an operation of its own, so that they are atomic there.

A commit of one write is looked at here first. Where the write says the same as an operation does, that operation is called:
a claim of a schedule's fire, a schedule or a trigger that must be new, metadata of threads and resources, the results of a
step, parts of a run's state, a chunk of observations, configuration. Everything else is None, and goes the general way.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from math import copysign
from typing import Any, TypeAlias

import attrs

from convexorm.errors import ConvexORMError, StaleDataError
from convexorm.requests import Applied, Insert, Key, Patch, Write, Written, claimed
from convexorm.values import Value, check_value, same
from mastra_convex.foreign.addresses import Address, keyed, record_of
from mastra_convex.foreign.evaluation import differing
from mastra_convex.foreign.handler import Handler, Refused
from mastra_convex.foreign.reading import Reader
from mastra_convex.workflows.snapshots import merged_result

__all__ = ["applied_at_once", "insertion_of"]

Json: TypeAlias = Any


async def applied_at_once(handler: Handler, reader: Reader, write: Write) -> Applied | None:
    """The answer to a write that an operation of the handler has applied; None for any other write.

    Raises StaleDataError where the operation finds what the write did not expect.
    """
    if isinstance(write, Insert):
        insertion = insertion_of(write)
        return None if insertion is None else await insertion(handler)
    if not isinstance(write, Patch) or write.unset or write.unique or write.compute or write.where:
        return None
    if write.table.name == "mastra_schedules":
        return await _claim(handler, write)
    operation = _CHANGES.get(write.table.name)
    return None if operation is None else await _change(handler, reader, write, operation)


# -- records that must be new ----------------------------------------------------------------------------------------


def insertion_of(write: Insert) -> Callable[[Handler], Awaitable[Applied]] | None:
    """What inserts a record only if there is none with its id, at once; None for a table without such an operation."""
    insertion = _INSERTIONS.get(write.table.name)
    keys = [key for key, _ in claimed(write.table, write.unique, write.doc)]
    address = keyed(write.table, keys[0].index, keys[0].key) if len(keys) == 1 else None
    if insertion is None or address is None or write.doc.get("id") != address.id:
        return None
    return lambda handler: insertion(handler, write, address)


def _insertion(operation: str) -> Callable[[Handler, Insert, Address], Awaitable[Applied]]:
    async def insert(handler: Handler, write: Insert, address: Address) -> Applied:
        try:
            await handler.call(operation, address.scope, record=record_of(write.table, write.doc, address.id))
        except Refused:
            if await Reader(handler).load(write.table, address) is None:
                raise
            raise StaleDataError(table=write.table.name, reason="exists", write=0) from None
        return Written(address.text, None)

    return insert


_INSERTIONS = {
    "mastra_schedules": _insertion("createSchedule"),
    "mastra_schedule_triggers": _insertion("recordScheduleTrigger"),
}


# -- the claim of a fire ---------------------------------------------------------------------------------------------

_CLAIMED = {"next_fire_at", "last_fire_at", "last_run_id", "updated_at"}


async def _claim(handler: Handler, write: Patch) -> Applied | None:
    address = keyed(write.table, write.at.index, write.at.key) if isinstance(write.at, Key) else None
    if (
        address is None
        or write.set.keys() != _CLAIMED
        or write.expect.keys() - {"updated_at"} != {"status", "next_fire_at"}
        or write.expect["status"] != "active"
        or write.set["last_run_id"] is None
        or write.set["last_fire_at"] is None
    ):
        return None
    answer = await handler.call(
        "updateScheduleNextFire",
        address.scope,
        id=address.id,
        expectedNextFireAt=write.expect["next_fire_at"],
        newNextFireAt=write.set["next_fire_at"],
        lastFireAt=write.set["last_fire_at"],
        lastRunId=write.set["last_run_id"],
    )
    if answer.result is not True:
        raise StaleDataError(table=write.table.name, reason="changed", write=0, fields=("next_fire_at",))
    return True


# -- merges ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Asked:
    """An operation and its arguments."""

    operation: str
    arguments: Mapping[str, Any]


_Operation = Callable[[str, Mapping[str, Value], Mapping[str, Value]], "_Asked | None"]
"""From a record's id, the document as it is, and what is to be set."""


async def _change(handler: Handler, reader: Reader, write: Patch, operation: _Operation) -> Applied | None:
    address = Address.parse(write.at, write.table) if isinstance(write.at, str) else None
    document = None if address is None else await reader.load(write.table, address)
    if address is None or document is None:
        return None
    if differing(write.table, document, write.expect):
        return None
    known = {name: value for name, value in write.set.items() if name in document or name not in _KEPT_BESIDE}
    asked = operation(address.id, document, known)
    if asked is None:
        return None
    try:
        await handler.call(asked.operation, address.scope, **asked.arguments)
    except Refused:
        if await Reader(handler).load(write.table, address) is not None:
            raise
        raise StaleDataError(table=write.table.name, reason="missing", write=0) from None
    return True


_KEPT_BESIDE = frozenset(("status",))
"""Fields that are ours alone: the handler's table has none, so a change of them is none there."""


def _thread(id: str, before: Mapping[str, Value], new: Mapping[str, Value]) -> _Asked | None:
    added = _added(before.get("metadata"), new.get("metadata"))
    if not new.keys() <= {"title", "metadata", "updatedAt"} or added is None or "updatedAt" not in new:
        return None
    title = new.get("title", before.get("title"))
    return _Asked("updateThread", {"id": id, "title": title, "metadata": added, "updatedAt": new["updatedAt"]})


def _resource(id: str, before: Mapping[str, Value], new: Mapping[str, Value]) -> _Asked | None:
    if not new.keys() <= {"workingMemory", "metadata", "updatedAt"} or "updatedAt" not in new:
        return None
    given = {"resourceId": id, "createdAt": before["createdAt"], "updatedAt": new["updatedAt"]}
    if "metadata" in new:
        added = _added(before.get("metadata"), new["metadata"])
        if added is None:
            return None
        given["metadata"] = added
    if "workingMemory" in new:
        if not isinstance(new["workingMemory"], str):
            return None
        given["workingMemory"] = new["workingMemory"]
    return _Asked("updateResource", given)


def _snapshot(id: str, before: Mapping[str, Value], new: Mapping[str, Value]) -> _Asked | None:
    if new.keys() - {"status"} != {"snapshot", "updatedAt"}:
        return None
    old, state = _parsed(before["snapshot"]), _parsed(new["snapshot"])
    if not isinstance(old, dict) or not isinstance(state, dict) or not _survives(old) or not _survives(state):
        return None
    if not isinstance(old.get("context"), dict) or not isinstance(state.get("context"), dict):
        return None
    run = {"workflowName": before["workflow_name"], "runId": before["run_id"]}
    added = _added(old, state)
    if added is None:
        return None
    if "context" not in added:
        return _Asked("mergeWorkflowState", {**run, "opts": _text(added)})
    results = _added(old["context"], state["context"])
    requested = _added(old.get("requestContext") or {}, state.get("requestContext") or {})
    if results is None or requested is None or len(results) != 1 or not added.keys() <= {"context", "requestContext"}:
        return None
    ((step, result),) = results.items()
    known = old["context"].get(step)
    if step == _PROTO or not isinstance(result, dict) or not (known is None or isinstance(known, dict)):
        return None  # the handler looks for an output in whatever it has for the step
    if not same(merged_result(known, result), result):
        return None
    return _Asked(
        "mergeWorkflowStepResult", {**run, "stepId": step, "result": _text(result), "requestContext": _text(requested)}
    )


def _observations(id: str, before: Mapping[str, Value], new: Mapping[str, Value]) -> _Asked | None:
    if new.keys() == {"config", "updatedAt"}:
        before_it, after_it = _parsed(before["config"]), _parsed(new["config"])
        config = _config(before_it, after_it)
        if config is None or not _survives(before_it) or not _survives(after_it):
            return None
        return _Asked("omUpdateConfig", {"id": id, "config": _text(config), "updatedAt": new["updatedAt"]})
    if not {"bufferedObservationChunks", "updatedAt"} <= new.keys() or new.keys() - {
        "bufferedObservationChunks",
        "lastBufferedAtTime",
        "updatedAt",
    }:
        return None
    stored = before.get("bufferedObservationChunks")
    old, chunks = _parsed(stored) if stored else [], _parsed(new["bufferedObservationChunks"])
    if not isinstance(old, list) or not isinstance(chunks, list) or not chunks or not same(chunks[:-1], old):
        return None
    if not _storable(chunks[-1]) or not _survives(chunks):
        return None
    time = new.get("lastBufferedAtTime")
    moment = {"lastBufferedAtTime": time} if isinstance(time, str) else {}
    if "lastBufferedAtTime" in new and not moment:
        return None
    return _Asked("omAppendBufferedChunk", {"id": id, "chunk": chunks[-1], "updatedAt": new["updatedAt"], **moment})


_CHANGES: dict[str, _Operation] = {
    "mastra_threads": _thread,
    "mastra_resources": _resource,
    "mastra_workflow_snapshots": _snapshot,
    "mastra_observational_memory": _observations,
}


_PROTO = "__proto__"
"""A key that the handler's merges lose, since JavaScript takes it for an object's prototype. Whole texts keep it."""

# -- differences -----------------------------------------------------------------------------------------------------


def _added(old: Json, new: Json) -> dict[str, Json] | None:
    """The fields to merge into `old` to make it `new`; None where a merge of fields does not do that."""
    if old is None:
        old = {}
    if not isinstance(old, dict) or not isinstance(new, dict) or old.keys() - new.keys():
        return None
    return {name: value for name, value in new.items() if name not in old or not same(old[name], value)}


def _config(old: Json, new: Json) -> dict[str, Json] | None:
    """The same for a merge that goes into nested objects."""
    added = _added(old, new)
    if added is None or _PROTO in added:
        return None
    nested: dict[str, Json] = {}
    for name, value in added.items():
        inner = old.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            difference = _config(inner, value)
            if difference is None:
                return None
            nested[name] = difference
        else:
            nested[name] = value
    return nested


def _survives(value: Json) -> bool:
    """Whether the handler, which reads all it merges into and writes it anew, leaves numbers as they are.

    JavaScript has no integers from 2**53 on, writes large numbers with other digits, and knows no -0 in JSON.
    """
    if isinstance(value, dict):
        return all(map(_survives, value.values()))
    if isinstance(value, list):
        return all(map(_survives, value))
    if isinstance(value, float) and value == 0:
        return copysign(1, value) > 0
    return not isinstance(value, int | float) or abs(value) < 2**53


def _storable(value: Json) -> bool:
    """Whether Convex takes a value as an argument."""
    try:
        check_value(value)
    except ConvexORMError:
        return False
    return True


def _parsed(text: Json) -> Json:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
