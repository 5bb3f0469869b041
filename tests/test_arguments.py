"""Wrong things in every place of every public call: one error of ours, or what was meant; never what goes wrong inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

import convexorm
from convexorm import (
    ConvexORMError,
    Deployment,
    Functions,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    Query,
    Related,
    RelatedList,
    Session,
    ValidationError,
    VectorIndex,
    connect,
    field,
    func,
    relationship,
)
from convexorm.testing import Factory, fake_session


class Guest(Model, table="guests", primary_key="id"):
    id: Mapped[str]
    email: Mapped[str] = field(default="")
    nights: Mapped[int] = field(default=0)
    taste: Mapped[list[float]] = field(factory=lambda: [1.0, 0.0])
    stays: RelatedList[Stay] = relationship("by_guest")
    by_guest_id = Index("id")
    by_email = Index("email", unique=True)
    by_nights = Index("nights")
    by_taste = VectorIndex("taste", dimensions=2)


class Stay(Model, table="stays", primary_key="id"):
    id: Mapped[str]
    guest_id: Mapped[str] = field(references=Guest)
    guest: Related[Guest] = relationship("guest_id")
    by_stay_id = Index("id")
    by_guest = Index("guest_id")


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all([Guest(id="a", email="a@x"), Guest(id="b", email="b@x")])
            session.commit()
        yield deployment


Call = tuple[Callable[..., Any], list[Any], dict[str, Any]]


def calls(session: Session, deployment: Deployment) -> dict[str, Call]:
    """Calls by name, each with arguments that are right."""
    stored = session.get_one(Guest, "a")
    query = Guest.query().by_index("by_nights", nights=0)
    functions, every = Functions(deployment), Guest.query
    of_queries = ("all", "first", "one_or_none", "count", "delete_all", "delete_range", "stream", "exists", "digests")
    return {
        **{name: (getattr(session, name), [query], {}) for name in of_queries},
        "get": (session.get, [Guest, "a"], {"load": [Guest.stays]}),
        "get by email": (session.get, [Guest], {"email": "a@x"}),
        "get_one": (session.get_one, [Guest, "a"], {}),
        "get_many": (session.get_many, [Guest, ["a"]], {}),
        "page": (session.page, [query, 2], {"cursor": None}),
        "read": (session.read, [query, query.count()], {}),
        "sum": (session.sum, [query, Guest.nights], {}),
        "min": (session.min, [query, Guest.nights], {}),
        "add": (session.add, [Guest(id="n1")], {}),
        "add_all": (session.add_all, [[Guest(id="n2")]], {}),
        "delete": (session.delete, [stored], {}),
        "upsert": (
            session.upsert,
            [Guest(id="n3", email="e")],
            {"by": "by_email", "keep": ["nights"], "greatest": ["nights"]},
        ),
        "update": (session.update, [Guest, "a", {"nights": 1}], {}),
        "update_all": (session.update_all, [query, {Guest.nights: 1}], {}),
        "delete_key": (session.delete_key, [Guest, "b"], {}),
        "delete_tree": (session.delete_tree, [stored], {}),
        "bulk_upsert": (session.bulk_upsert, [Guest, [{"id": "q"}]], {}),
        "get_or_create": (session.get_or_create, [Guest], {"email": "e", "defaults": {"id": "z"}}),
        "load": (session.load, [[stored], Guest.stays], {}),
        **{name: (getattr(session, name), [stored], {}) for name in ("refresh", "expunge", "expire")},
        **{name: (getattr(session, name), [Guest(id="a")], {}) for name in ("merge", "attach")},
        "transact": (session.transact, [lambda session: 1], {}),
        "search": (session.search, [Guest.by_taste, [1.0, 0.0]], {"limit": 3, "where": None}),
        "changes": (session.changes, [query, "x"], {}),
        "matrix": (session.matrix, [Guest.taste, 2, query], {}),
        "recount": (session.recount, [Guest], {}),
        "Session": (Session, [deployment], {}),
        "connect": (connect, ["memory:"], {"admin_key": None, "timeout": 3, "retry": 2, "echo": False, "module": "orm"}),
        "Functions": (Functions, [deployment], {"token": None, "component": None}),
        "Functions.query": (functions.query, ["a:b", {"x": 1}], {"returns": list[Guest]}),
        "Functions.mutation": (functions.mutation, ["a:b", {"x": 1}], {"returns": list[Guest]}),
        "by_index": (every().by_index, ["by_nights", Guest.nights == 1], {}),
        "by_index of values": (every().by_index, ["by_nights"], {"nights": 1}),
        "where": (every().where, [Guest.nights == 1], {}),
        "order": (every().order, ["asc"], {}),
        "order_by": (every().order_by, [Guest.nights.desc()], {}),
        "limit": (every().limit, [1], {}),
        "offset": (every().offset, [1], {}),
        **{name: (getattr(every(), name), [Guest.nights], {}) for name in ("select", "group_by", "distinct", "avg", "max")},
        "Query.load": (every().load, [Guest.stays], {}),
        "any": (Guest.stays.any, [Stay.id == "x"], {}),
        "has": (Stay.guest.has, [Guest.nights == 1], {}),
        "stays.where": (Guest.stays.where, [Stay.id == "x"], {}),
        "stays.limit": (Guest.stays.limit, [1], {}),
        "stays.order": (Guest.stays.order, ["desc"], {}),
        "stays.load": (Guest.stays.load, [Stay.guest], {}),
        "func.append": (func.append, [Guest.taste, 1.0], {}),
        "func.greatest": (func.greatest, [Guest.nights, 1], {}),
        "from_dict": (Guest.from_dict, [{"id": "x"}], {}),
        "from_json": (Guest.from_json, ['{"id": "x"}'], {}),
        "constructor": (Guest, [], {"id": "x", "email": "x", "nights": 1, "taste": [1.0, 0.0], "stays": []}),
        "fake_session": (fake_session, [Guest(id="x")], {}),
        "Factory": (Factory, [Guest], {}),
        "in_": (Guest.nights.in_, [[1]], {}),
        "startswith": (Guest.email.startswith, ["x"], {}),
        "like": (Guest.email.like, ["x%"], {}),
        "Index": (Index, ["nights"], {"unique": False, "staged": False}),
        "VectorIndex": (VectorIndex, ["taste"], {"dimensions": 2, "filter_fields": ()}),
        "Counter": (convexorm.Counter, ["nights"], {}),
        "Sum": (convexorm.Sum, ["nights"], {"by": "email"}),
        "field": (field, [], {"name": "x", "default": 1, "optional": False, "check": False, "none": "null"}),
        "relationship": (relationship, ["by_guest"], {"on_delete": "cascade"}),
    }


WRONG: list[Any] = [
    *(None, 0, 1.5, True, "", "x", "\ud800", b"x", math.nan, -1, 10**18, datetime(2020, 1, 1), object()),
    *([], [None], {}, {"x": 1}, {1: 2}, set(), (), (1, 2), iter([1]), print),
    *(Guest, Guest.nights, Guest.by_nights, Guest.by_taste, Guest.query(), Guest.query().count(), Guest.nights == 1),
    *(Stay.guest, Guest.nights.desc(), func.now(), Session),
]
NAMES = list(calls(fake_session(Guest(id="a")), connect("memory:")))
RUNS_WHAT_IT_IS_GIVEN = {("transact", 0)}


def test_what_is_several_is_not_one_text() -> None:
    session = fake_session(Guest(id="a"))
    for option in ("keep", "greatest"):
        with pytest.raises(InvalidRequestError, match="are needed, as a list for instance, got str"):
            session.upsert(Guest(id="a"), **{option: "email"})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="guests: an attribute is told by its name, got int"):
        session.update(Guest, "a", {1: 2})


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_argument_is_one_error_of_ours_or_no_error(deployment: Deployment, name: str) -> None:
    _, arguments, named = calls(Session(deployment), deployment)[name]
    raw = []
    for place in [*range(len(arguments)), *named]:
        for wrong in WRONG:
            if (name, place) in RUNS_WHAT_IT_IS_GIVEN and callable(wrong):
                continue
            call, arguments, named = calls(Session(deployment), deployment)[name]
            if isinstance(place, int):
                arguments[place] = wrong
            else:
                named[place] = wrong
            try:
                _use(call(*arguments, **named))
            except ConvexORMError:
                pass
            except Exception as error:
                raw.append((place, type(wrong).__name__, repr(error)))
    assert raw == []


def _use(answer: Any) -> None:
    """Whatever is only done when what was answered is used."""
    if isinstance(answer, Iterator):
        list(answer)
    elif isinstance(answer, Query):
        answer.explain()
