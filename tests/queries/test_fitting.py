"""Documents that others have written otherwise than the model says: found out, left out, and left as they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, Literal, cast
from uuid import uuid4

import attrs
import pytest
from convex import ConvexInt64

from convexorm import (
    AsyncSession,
    Deployment,
    Fitting,
    Id,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    Related,
    RelatedList,
    Session,
    ValidationError,
    field,
    relationship,
)
from convexorm.faces import finish
from convexorm.requests import Commit, Insert
from convexorm.testing import fake_session
from convexorm.values import Value
from tests.models import Anything

TABLE = Anything.__mapper__.table


class Reading(Model, table="anything", primary_key="key"):
    """What is thought to be in the table."""

    key: Mapped[str]
    a: Mapped[float | None] = field(default=None)
    b: Mapped[dict[str, list[float]] | None] = field(default=None, validator=lambda _one, _attribute, _value: None)
    text: Mapped[str | None] = field(default=None)
    by_key = Index("key")
    by_a = Index("a")


class Label(Model, table="anything", primary_key="key"):
    """Knows of two fields only."""

    key: Mapped[str]
    text: Mapped[str | None] = field(default=None)
    by_key = Index("key")


class Reply(Model, table="anything", primary_key="key"):
    """Refers to another one, or to what no id is."""

    key: Mapped[str]
    a: Mapped[Id[Reply] | None] = field(default=None)
    leads_to: Related[Reply | None] = relationship("a")
    led_from: RelatedList[Reply] = relationship("by_a")
    by_key = Index("key")
    by_a = Index("a")


DOCUMENTS: dict[str, dict[str, Any]] = {
    "a good": {"a": 1.0, "b": {"x": [1.0]}},
    "b number": {"a": "eins"},
    "c deep": {"a": 2.0, "b": {"x": [1.0, "zwei"]}},
    "d null": {"a": None, "text": "null"},
    "e big": {"a": ConvexInt64(7)},
    "f good": {"a": 3.0, "text": "three"},
}
BAD = {"b number": ("a", ""), "c deep": ("b", '["x"][1]'), "e big": ("a", "")}
GOOD = [key for key in DOCUMENTS if key not in BAD]
QUERY = Reading.query().by_index("by_key")


async def fill(session: AsyncSession, deployment: Deployment, documents: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Write documents as they are; answers their ids."""
    writes = [Insert(TABLE, {"key": key, **fields}) for key, fields in documents.items()]
    await deployment.asynchronous.commit(Commit(uuid4().hex, writes))
    found = await session.all(Anything.query().by_index("by_key"))
    ids = {one.key: str(one.convex_id) for one in found}
    await session.expunge_all()
    return ids


async def stored(session: AsyncSession) -> dict[str, dict[str, Value]]:
    await session.expunge_all()
    found = await session.all(Anything.query().by_index("by_key"))
    await session.expunge_all()
    return {one.key: dict(one._state.document or {}) for one in found}


def check(error: ValidationError, id: str, field: str, path: str) -> None:
    assert (error.table, error.document_id, error.field, error.path) == ("anything", id, field, path)
    assert f"anything.{field}{path} of document {id}" in str(error)
    assert not any(word in str(error) for word in ("eins", "zwei"))


async def test_what_does_not_fit_raises_is_left_out_or_collected(session: AsyncSession, deployment: Deployment) -> None:
    ids = await fill(session, deployment, DOCUMENTS)
    assert [one.key for one in await session.all(QUERY, invalid="skip")] == GOOD
    collected = await session.all(QUERY, invalid="collect")
    assert isinstance(collected, Fitting)
    assert [one.key for one in collected] == GOOD
    assert [one.id for one in collected.invalid] == [ids[key] for key in BAD]
    for one, (key, (at, path)) in zip(collected.invalid, BAD.items(), strict=True):
        check(one.error, ids[key], at, path)
    with pytest.raises(ValidationError) as raised:
        await session.all(QUERY, invalid="raise")
    check(raised.value, ids["b number"], "a", "")
    assert [one.key for one in await session.all(QUERY.limit(1), invalid="raise")] == ["a good"]
    assert [one.key for one in await session.all(QUERY)] == list(DOCUMENTS)
    rows = await session.all(QUERY.select(Reading.key, Reading.a), invalid="collect")
    assert list(rows) == [("a good", 1.0), ("c deep", 2.0), ("d null", None), ("f good", 3.0)]
    assert [one.id for one in rows.invalid] == [ids["b number"], ids["e big"]]
    backwards = QUERY.order_by(Reading.text.desc()).full_scan().offset(1).limit(4)
    expected = [one.key for one in await session.all(backwards) if one.key not in BAD]
    assert [one.key for one in await session.all(backwards, invalid="skip")] == expected


async def test_pages_and_streams_leave_out_alike(session: AsyncSession, deployment: Deployment) -> None:
    ids = await fill(session, deployment, DOCUMENTS)
    pages = [await session.page(QUERY, 2, invalid="collect")]
    while pages[-1].has_more:
        pages.append(await session.page(QUERY, 2, pages[-1].cursor, invalid="collect"))
    assert [[one.key for one in page.items] for page in pages] == [["a good"], ["d null"], ["f good"]]
    assert [one.id for page in pages for one in page.invalid] == [ids[key] for key in BAD]
    assert [one.key async for one in session.stream(QUERY, invalid="skip")] == GOOD
    assert [row async for row in session.stream(QUERY.select(Reading.a), invalid="skip")] == [
        (1.0,),
        (2.0,),
        (None,),
        (3.0,),
    ]
    with pytest.raises(ValidationError):
        [one async for one in session.stream(QUERY, invalid="raise")]
    with pytest.raises(ValidationError):
        await session.page(QUERY, 2, invalid="raise")


async def test_other_words_and_groups_are_refused(session: AsyncSession) -> None:
    for word in ("ignore", None.__class__, 1, ["skip"]):
        with pytest.raises(InvalidRequestError, match="one of 'raise', 'skip', 'collect'"):
            await session.all(QUERY, invalid=cast("Any", word))
    with pytest.raises(InvalidRequestError, match="one of 'raise', 'skip'"):
        [one async for one in session.stream(QUERY, invalid=cast("Any", "collect"))]
    for word in ("skip", "collect"):
        with pytest.raises(InvalidRequestError, match="groups or distinct"):
            await session.all(QUERY.distinct(Reading.a), invalid=cast("Literal['skip']", word))
    assert await session.all(QUERY.distinct(Reading.a), invalid="raise") == []


async def test_what_the_session_shows_is_what_has_to_fit(session: AsyncSession, deployment: Deployment) -> None:
    await fill(session, deployment, DOCUMENTS)
    bad = await session.get_one(Reading, "b number")
    assert bad.key == "b number"
    assert "b number" not in [one.key for one in await session.all(QUERY, invalid="skip")]
    bad.a = 5.0  # mended, and not committed yet
    assert bad in await session.all(QUERY, invalid="skip")
    await session.commit()
    assert bad in await session.all(QUERY, invalid="skip")
    assert (await stored(session))["b number"]["a"] == 5.0


LOOKS: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda one: one.b,
    "to_dict": lambda one: one.to_dict(),
    "to_json": lambda one: one.to_json(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickled": lambda one: pickle.loads(pickle.dumps(one)).b,
    "pickled after a look": lambda one: (one.key, pickle.loads(pickle.dumps(one)).b),
}


async def test_every_look_at_a_column_that_does_not_fit_raises(session: AsyncSession, deployment: Deployment) -> None:
    ids = await fill(session, deployment, DOCUMENTS)
    for look in LOOKS.values():
        (bad,) = await session.all(QUERY.where(Reading.key == "c deep"))
        with pytest.raises(ValidationError) as raised:
            look(bad)
        check(raised.value, ids["c deep"], *BAD["c deep"])
        await session.expunge_all()
    with pytest.raises(ValidationError) as raised:
        await session.all(QUERY.select(Reading.b))
    check(raised.value, ids["c deep"], *BAD["c deep"])
    detached = await session.get_one(Reading, "c deep")
    await session.expunge_all()
    with pytest.raises(ValidationError) as raised:
        await session.merge(detached)
    check(raised.value, ids["c deep"], *BAD["c deep"])
    assert not session.dirty


async def test_a_reference_that_does_not_fit_raises_where_it_is_looked_at(
    session: AsyncSession, deployment: Deployment
) -> None:
    ids = await fill(session, deployment, {"a": {"a": 5.0}, "b": {"a": {"no": "id"}}, "c": {}})
    query = Reply.query().by_index("by_key").load(Reply.leads_to, Reply.led_from)
    odd, odder, good = await session.all(query)
    assert (good.leads_to, list(odd.led_from), list(odder.led_from)) == (None, [], [])
    for one in (odd, odder):
        with pytest.raises(ValidationError) as raised:
            assert one.leads_to
        check(raised.value, ids[one.key], "a", "")
        with pytest.raises(ValidationError):
            await session.load(one, Reply.leads_to)
    assert [one.key for one in await session.all(query, invalid="skip")] == ["c"]
    collected = await session.all(query, invalid="collect")
    assert collected[0].leads_to is None
    assert [one.id for one in collected.invalid] == [ids["a"], ids["b"]]


def test_a_watch_shows_what_does_not_fit_like_a_query(deployment: Deployment) -> None:
    writes = [Insert(TABLE, {"key": key, **fields}) for key, fields in DOCUMENTS.items()]
    with Session(deployment) as session:
        session.delete_all(Anything.query().full_scan())
        finish(deployment.blocking.commit(Commit(uuid4().hex, writes)))
        ids = {one.key: str(one.convex_id) for one in session.all(Anything.query().by_index("by_key"))}
    with deployment.watch(QUERY) as watch:
        bad = next(one for one in watch.next(timeout=60).items if one.key == "c deep")
        with pytest.raises(ValidationError) as raised:
            assert bad.b
        check(raised.value, ids["c deep"], *BAD["c deep"])


ODD: dict[str, dict[str, Any]] = {
    "numbers": {"a": ConvexInt64(2**63 - 1), "b": {"n": [ConvexInt64(-1), 1.0, float("inf"), -0.0]}},
    "bytes": {"a": b"\x00\xff", "b": {"deep": [{"bytes": b""}, None, {}]}},
    "null": {"a": None},
    "missing": {},
    "old": {"a": "an old shape", "b": {"x": "no list"}},
}


@pytest.mark.parametrize("model", [Reading, Label, Reply])
async def test_a_change_leaves_what_it_does_not_touch_exactly_as_it_is(
    session: AsyncSession, deployment: Deployment, model: type[Any]
) -> None:
    await fill(session, deployment, ODD)
    before = await stored(session)
    for one in await session.all(model.query().by_index("by_key")):
        if model is Reply:
            one.key = f"{one.key} changed"
        else:
            one.text = "changed"
    assert len(session.dirty) == len(ODD)
    await session.commit()
    after = await stored(session)
    for key, document in before.items():
        changed = {"key": f"{key} changed"} if model is Reply else {"text": "changed"}
        now = after[changed.get("key", key)]
        assert now.keys() == document.keys() | changed.keys()
        assert repr({**document, **changed}) == repr({name: now[name] for name in {**document, **changed}})


@attrs.define
class Inner:
    n: float
    deep: list[Inmost] = attrs.field(factory=list)


@attrs.define
class Inmost:
    x: str


class Outer(Model, table="anything", primary_key="key"):
    """Knows a part of what is inside a value."""

    key: Mapped[str]
    a: Mapped[Inner | None] = field(default=None)
    text: Mapped[str | None] = field(default=None)
    by_key = Index("key")


async def test_a_change_that_would_lose_what_is_unknown_inside_a_value_is_refused(
    session: AsyncSession, deployment: Deployment
) -> None:
    known = {"n": 1.0, "deep": [{"x": "a"}, {"x": "b"}]}
    more = {"n": 1.0, "deep": [{"x": "a"}, {"x": "b", "y": ConvexInt64(1)}]}
    ids = await fill(session, deployment, {"known": {"a": known}, "more": {"a": more}})
    before = await stored(session)
    for one in await session.all(Outer.query().by_index("by_key")):
        assert one.a == Inner(1.0, [Inmost("a"), Inmost("b")])
        one.text = "changed"
    await session.commit()
    for one in await session.all(Outer.query().by_index("by_key")):
        assert one.a is not None
        one.a.n = 2.0
    with pytest.raises(ValidationError) as raised:
        await session.commit()
    assert (raised.value.document_id, raised.value.field) == (ids["more"], "a")
    assert raised.value.path == '["deep"][1]["y"]'
    await session.rollback()
    after = await stored(session)
    assert {key: {**one, "text": "changed"} for key, one in before.items()} == after
    session.update(Outer, "more", {"a": Inner(3.0)})
    session.update(Outer, "known", {"a": Inner(2.0)})
    await session.commit()
    assert [one["a"] for one in (await stored(session)).values()] == [{"n": 2.0, "deep": []}, {"n": 3.0, "deep": []}]


def test_the_session_of_unit_tests_answers_alike() -> None:
    with fake_session(Anything(key="good", a=1.0), Anything(key="odd", a="eins")) as session:
        collected = session.all(QUERY, invalid="collect")
        assert [one.key for one in collected] == ["good"]
        assert [one.error.field for one in collected.invalid] == ["a"]
