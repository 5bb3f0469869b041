"""The entities: what their rows look like to other writers, and that every one is read as it was stored."""

from __future__ import annotations

import re
from typing import Any

import pytest

import mastra_convex
import mastra_convex.entities as entities
from convexorm import Deployment, Model, Session
from convexorm.mapping.model import dump
from convexorm.testing import Factory
from convexorm.types import IsoDatetimeType
from mastra_convex import BackgroundTask, Document, Message, Resource, Score, Thread
from tests.mastra.support import at, message, thread

MODELS: list[type[Model]] = [getattr(entities, name) for name in entities.__all__]
GIVEN: dict[type[Model], dict[str, Any]] = {
    BackgroundTask: {"status": "pending"},
    entities.CacheEntry: {"kind": "value"},
    entities.Vector: {"embedding": [0.5, 1.0]},
}
"""What a factory cannot make up."""
NOT_FOREIGN: dict[type[Model], str] = {
    entities.CacheEntry: "the handler does not reach the cache",
    entities.CacheListItem: "the handler does not reach the cache",
    Score: "the npm package's schema has not all of its fields, and requires others",
    entities.VectorChange: "the log is kept by this library's functions",
    Thread: "a thread without a title has an empty one there",
    entities.WorkflowSnapshot: "a run without an id of its row gets one there",
}
"""Entities that are not read as they were stored with only the npm package's own functions."""
STORED = [
    pytest.param(model, marks=pytest.mark.needs_functions(NOT_FOREIGN[model]) if model in NOT_FOREIGN else ())
    for model in MODELS
]


def _made(model: type[Model], unique: str, **attributes: Any) -> Any:
    """An entity whose texts begin with `unique`."""
    given = {**GIVEN.get(model, {}), **attributes}
    entity: Any = Factory(model, **given)()
    for name, column in model.__mapper__.columns.items():
        value = getattr(entity, name)
        if isinstance(value, str) and name not in given and not isinstance(column.type, IsoDatetimeType):
            setattr(entity, name, f"{unique}{value}")
    return entity


def test_entities_are_imported_from_the_package() -> None:
    for model in MODELS:
        assert getattr(mastra_convex, model.__name__) is model


@pytest.mark.parametrize("model", STORED, ids=lambda model: model.__name__)
def test_an_entity_is_read_as_it_was_stored(deployment: Deployment, unique: str, model: type[Model]) -> None:
    entity = _made(model, unique)
    with Session(deployment) as session:
        session.add(entity)
        session.commit()
        values = {name: getattr(entity, name) for name in model.__mapper__.columns}
        key = entity.primary_key
    with Session(deployment) as session:
        found: Any = session.get(model, key)
        assert found is not None
        assert {name: getattr(found, name) for name in model.__mapper__.columns} == values


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_timestamps_are_javascripts(model: type[Model]) -> None:
    document = dump(_made(model, ""))
    for column in model.__mapper__.columns.values():
        value = document.get(column.field)
        if isinstance(column.type, IsoDatetimeType) and value is not None:
            assert isinstance(value, str)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value)


def test_a_message_is_stored_under_the_npm_packages_names() -> None:
    entity = Message(**message("m", "t", "r", 1.5, content={"$schema": "日本語", "n": 1}, type="v2"))
    assert dump(entity) == {
        "id": "m",
        "thread_id": "t",
        "resourceId": "r",
        "role": "user",
        "type": "v2",
        "content": '{"$schema":"日本語","n":1}',
        "createdAt": "2024-05-01T12:00:01.500Z",
    }


def test_metadata_is_a_value_where_convex_can_hold_it_and_json_text_where_not() -> None:
    assert dump(Thread(**thread("t", "r", metadata={"a": [1]})))["metadata"] == {"a": [1]}
    assert dump(Thread(**thread("t", "r", metadata={"$a": [1]})))["metadata"] == '{"$a":[1]}'
    assert "metadata" not in dump(Resource(id="r", created_at=at(0), updated_at=at(0)))


def test_none_is_no_field_on_scores_and_null_on_tasks() -> None:
    score = dump(_made(Score, "", reason=None))
    assert None not in score.values()
    task = dump(_made(BackgroundTask, "", result=None, started_at=None))
    for name in (
        "thread_id",
        "resource_id",
        "result",
        "error",
        "suspend_payload",
        "startedAt",
        "suspendedAt",
        "completedAt",
    ):
        assert task[name] is None


def test_a_document_of_any_table_is_known_by_table_and_key(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        session.add(Document(table=unique, record_key="1", record={"a": 1}))
        session.commit()
    with Session(deployment) as session:
        found = session.one(Document.query().by_index("by_table_primary", table=unique, record_key="1"))
        assert found.record == {"a": 1}
