"""Resources: what is remembered of a user, saved whole and changed by merging."""

from __future__ import annotations

from typing import Any

import pytest

from convexorm import Deployment, Session
from mastra_convex import AsyncMemory, Resource
from tests.mastra.support import at
from tests.mastra.test_threads import METADATA


def resource(id: str, **attributes: Any) -> dict[str, Any]:
    return {"id": id, "created_at": at(0), "updated_at": at(0), **attributes}


async def test_a_saved_resource_is_got_by_its_id(memory: AsyncMemory, unique: str) -> None:
    saved = await memory.save_resource(resource=resource(unique, working_memory="# Ann", metadata={"plan": "pro"}))
    found = await memory.get_resource_by_id(resource_id=unique)
    for one in (saved, found):
        assert one is not None
        assert (one.id, one.working_memory, one.metadata) == (unique, "# Ann", {"plan": "pro"})
        assert one.created_at == one.updated_at == at(0)


async def test_a_missing_resource_is_none(memory: AsyncMemory, unique: str) -> None:
    assert await memory.get_resource_by_id(resource_id=unique) is None


async def test_metadata_is_never_none(memory: AsyncMemory, unique: str) -> None:
    await memory.save_resource(resource={"id": unique})
    found = await memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert (found.metadata, found.working_memory) == ({}, None)
    assert found.created_at == found.updated_at > at(0)


async def test_saving_replaces_the_resource_whole(memory: AsyncMemory, unique: str) -> None:
    await memory.save_resource(resource=resource(unique, working_memory="old", metadata={"a": 1}))
    await memory.save_resource(resource=resource(unique, metadata={"b": 2}))
    found = await memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert (found.working_memory, found.metadata) == (None, {"b": 2})


@pytest.mark.parametrize("metadata", METADATA, ids=lambda value: repr(value)[:24])
async def test_metadata_is_read_as_it_was_saved(memory: AsyncMemory, unique: str, metadata: dict[str, Any]) -> None:
    await memory.save_resource(resource=resource(unique, metadata=metadata))
    found = await memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert found.metadata == metadata


async def test_an_update_changes_what_is_given(memory: AsyncMemory, unique: str) -> None:
    await memory.save_resource(resource=resource(unique, working_memory="old", metadata={"a": 1, "deep": {"x": 1}}))
    changed = await memory.update_resource(resource_id=unique, working_memory="new")
    assert (changed.working_memory, changed.metadata) == ("new", {"a": 1, "deep": {"x": 1}})
    changed = await memory.update_resource(resource_id=unique, metadata={"deep": {"y": 2}, "$schema": "s"})
    found = await memory.get_resource_by_id(resource_id=unique)
    for one in (changed, found):
        assert one is not None
        assert (one.working_memory, one.metadata) == ("new", {"a": 1, "deep": {"y": 2}, "$schema": "s"})
        assert (one.created_at, one.updated_at > at(0)) == (at(0), True)


async def test_an_empty_working_memory_counts(memory: AsyncMemory, unique: str) -> None:
    await memory.save_resource(resource=resource(unique, working_memory="old"))
    assert (await memory.update_resource(resource_id=unique, working_memory="")).working_memory == ""


async def test_updating_a_missing_resource_creates_it(memory: AsyncMemory, unique: str) -> None:
    for number, (given, expected) in enumerate(
        [
            ({"working_memory": "w"}, ("w", {})),
            ({"metadata": {"a": 1}}, (None, {"a": 1})),
            ({}, (None, {})),
        ]
    ):
        created = await memory.update_resource(resource_id=f"{unique}{number}", **given)  # type: ignore[arg-type]
        found = await memory.get_resource_by_id(resource_id=f"{unique}{number}")
        for one in (created, found):
            assert one is not None
            assert (one.working_memory, one.metadata) == expected
            assert one.created_at == one.updated_at


async def test_nulls_and_json_text_of_other_writers_are_read(
    memory: AsyncMemory, deployment: Deployment, unique: str
) -> None:
    await memory.save_resource(resource=resource(unique, working_memory="w"))
    with Session(deployment) as session:
        session.update(Resource, unique, {"metadata": '{"a":{"$b":1}}', "working_memory": None})
        session.commit()
    found = await memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert (found.metadata, found.working_memory) == ({"a": {"$b": 1}}, None)
    assert (await memory.update_resource(resource_id=unique, metadata={"c": 1})).metadata == {"a": {"$b": 1}, "c": 1}
