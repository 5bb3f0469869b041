"""The law of columns: what is accepted is stored, found and read back; what is refused says where, and writes nothing.

It is tried for each scalar in each container, on an embedded deployment and on the local host. A fixed seed tries the same
each time; a random one tries some more, others each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convexorm import Deployment, Index, Mapped, Model, Session, ValidationError, connect
from tests.conftest import serve_models
from tests.law import SCALARS, STRAY, Kind, Try, alike, kinds_of, loosely

BATCH = 20
"""Tries in an example of hypothesis: they share a commit, and the calls that read it again."""

NUMBERS = count()


def declare(kind: Kind, table: str) -> type[Any]:
    """A model of a table with a column `a` of this kind."""
    body = {
        "__annotations__": {"key": Mapped[str], "a": Mapped[kind.annotation]},  # type: ignore[name-defined]
        "__module__": __name__,
        "by_key": Index("key"),
        "by_a": Index("a"),
    }
    return type("Law", (Model,), body, table=table, primary_key="key")


def refused(deployment: Deployment, model: type[Any], value: Any) -> bool:
    """Whether a value is refused. It says where, and nothing of the commit is written."""
    key = f"r{next(NUMBERS)}"
    table = model.__mapper__.name
    with Session(deployment) as session:
        session.add(model(key=key, a=value))
        try:
            session.commit()
        except ValidationError as error:
            place = (error.table, error.field, str(error).startswith(f"{table}.a{error.path}: "))
        else:
            session.delete_key(model, key)
            session.commit()
            return False
    assert place == (table, "a", True)
    with Session(deployment) as session:
        assert session.get(model, key) is None
    return True


def obey(deployment: Deployment, model: type[Any], kind: Kind, tries: list[Try]) -> None:
    """The law, for some values of one column."""
    held: dict[str, Try] = {}
    for value, expected in tries:
        if expected is STRAY and refused(deployment, model, value):
            continue
        held[f"k{next(NUMBERS)}"] = (value, expected)
    if not held:
        return
    with Session(deployment) as session:
        made = {key: model(key=key, a=value) for key, (value, _) in held.items()}
        session.add_all(made.values())
        session.commit()
        assert session.dirty == []
    with Session(deployment) as session:
        asked: list[tuple[str, Any]] = []
        for (key, (value, expected)), one in zip(held.items(), session.get_many(model, held), strict=True):
            assert one is not None
            if expected is STRAY:
                json = kind.name in ("JsonText", "IsoDatetime")
                assert loosely(one.a, json) == loosely(value, json), (value, one.a)
            else:
                assert alike(one.a, expected), (value, one.a)
                if kind.name == "IsoDatetime":  # an instance shows at once what is stored
                    assert loosely(made[key].a, json=False) == loosely(one.a, json=False), made[key].a
            asked += [(key, value), (key, one.a)]
        assert session.dirty == []
        queries = [model.query().by_index("by_a", a=value) for _, value in asked]
        for (key, value), found in zip(asked, session.read(*queries), strict=True):
            assert key in {one.key for one in found}, value
        session.commit()
        for key in held:
            session.delete_key(model, key)
        session.commit()


Batch = tuple[type[Any], Kind, list[Try]]


Law = list[tuple[type[Any], Kind]]
"""Models, and of which kind their columns are."""


def declared(kinds: list[Kind]) -> Law:
    """A model for each kind, with a table of its own."""
    return [(declare(kind, f"law{number}"), kind) for number, kind in enumerate(kinds)]


def batches(models: Law) -> st.SearchStrategy[Batch]:
    """One of the models, and tries for its column."""

    def of(pair: tuple[type[Any], Kind]) -> st.SearchStrategy[Batch]:
        model, kind = pair
        return st.tuples(st.just(model), st.just(kind), st.lists(kind.tries, min_size=BATCH, max_size=BATCH))

    return st.sampled_from(models).flatmap(of)


def under_the_law(deployment: Deployment, models: Law, *, tries: int, seeded: bool) -> Callable[[], None]:
    @settings(
        max_examples=max(1, tries // BATCH),
        derandomize=seeded,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(batches(models))
    def run(batch: Batch) -> None:
        obey(deployment, *batch)

    return run


@pytest.fixture
def embedded() -> Iterator[Deployment]:
    with connect("memory:") as deployment:
        yield deployment


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: scalar.name)
def test_a_value_is_refused_or_read_back_as_it_was(scalar: Kind, embedded: Deployment) -> None:
    under_the_law(embedded, declared(kinds_of(scalar)), tries=800, seeded=True)()


def every_kind() -> Law:
    return declared([kind for scalar in SCALARS for kind in kinds_of(scalar)])


def test_a_value_drawn_at_random_is_too(embedded: Deployment) -> None:
    under_the_law(embedded, every_kind(), tries=1_000, seeded=False)()


def test_a_value_is_refused_or_read_back_as_it_was_by_typescript(tmp_path: Path) -> None:
    models = every_kind()
    with serve_models(tmp_path, *(model for model, _ in models)) as host, host.connect() as deployment:
        under_the_law(deployment, models, tries=2_000, seeded=True)()
