"""What unit tests of application code use: a session that needs nothing, and factories of entities.

    def test_finishing_a_task():
        session = fake_session(Task(text="water the plants", owner_id="u1"))
        finish_first_task(session, "u1")
        assert session.one(Task.query().by_index("by_owner", owner_id="u1")).done

The session is a real one, over an embedded deployment in memory: conflicts, validation and index rules are those of
production, and nothing is mocked.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Generic, TypeVar

from convexorm.deployments import EmbeddedDeployment
from convexorm.mapping.expressions import Column
from convexorm.mapping.model import Model
from convexorm.sessions import AsyncSession, Session

__all__ = ["Factory", "fake_async_session", "fake_session"]

M = TypeVar("M", bound=Model)


def fake_session(*instances: Model) -> Session:
    """A blocking session over a deployment in memory of its own, which holds `instances`, committed."""
    deployment = EmbeddedDeployment()
    _store(deployment, instances)
    return Session(deployment)


def fake_async_session(*instances: Model) -> AsyncSession:
    """The same, awaited."""
    deployment = EmbeddedDeployment()
    _store(deployment, instances)
    return AsyncSession(deployment)


def _store(deployment: EmbeddedDeployment, instances: tuple[Model, ...]) -> None:
    with Session(deployment) as session:
        session.add_all(instances)
        session.commit()


class Factory(Generic[M]):
    """Makes entities that are valid and different: `tasks = Factory(Task, done=True)`; `tasks(text="x")`, `tasks.batch(3)`.

    Attributes that are neither given nor have defaults are made up by their types, from the number of the entity (from 1):
    `"text-1"`, `1`, `1.0`, `False`, a datetime a second after the one before, a member of an enum, a dataclass of such,
    `[]`, `{}`, None where it may be. A callable stands for a value made from the number; a vector with an index has its
    dimensions. Raises TypeError for an attribute of a type it cannot make up.
    """

    def __init__(self, model: type[M], /, **attributes: Any) -> None:
        self.model = model
        self._attributes = attributes
        self._numbers = count(1)

    def __call__(self, /, **attributes: Any) -> M:
        """The next entity, transient."""
        number = next(self._numbers)
        given = {**self._attributes, **attributes}
        values = {name: value(number) if callable(value) else value for name, value in given.items()}
        for name, column in self.model.__mapper__.columns.items():
            if name not in values and not column.has_default:
                values[name] = None if column.nullable else self._vector(column) or _made_up(column, number)
        return self.model(**values)

    def _vector(self, column: Column[Any]) -> list[float] | None:
        indexes = self.model.__mapper__.table.vector_indexes
        dimensions = next((index.dimensions for index in indexes if index.field == column.field), None)
        return None if dimensions is None else [1.0] * dimensions

    def batch(self, size: int, /, **attributes: Any) -> list[M]:
        """The next `size` entities, transient."""
        return [self(**attributes) for _ in range(size)]


def _made_up(column: Column[Any], number: int) -> Any:
    try:
        return column.type.sample(column.name, number)
    except TypeError as error:
        raise TypeError(f"{error} for {column!r}: give Factory a value for {column.name!r}") from None
