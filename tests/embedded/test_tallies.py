"""Numbers of documents by the entries of an index are those of the documents themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from convexorm import Deployment, Index, Mapped, Model, Session, VectorIndex, connect, field
from convexorm.deployments.embedded import walks
from convexorm.deployments.embedded.tallies import tally_keys
from convexorm.requests import ReadResult

VALUES = 0.0, -0.0, 1.0, True, False, None, "", "a", "a\0", "a\0b", "aa", [1.0], [1.0, "a"], {"a": 1.0}, b"a", float("inf")


class Thing(Model, table="things"):
    kind: Mapped[Any] = field(default=None)
    place: Mapped[str] = field(default="")
    rank: Mapped[float] = field(default=0.0)
    by_kind = Index("kind")
    by_place = Index("place", "rank")
    by_all = Index("rank", "kind", "place")


class Partial(Model, table="things"):
    """As another program declares it, some of whose documents lack fields."""

    place: Mapped[str] = field(default="")
    rank: Mapped[float] = field(default=0.0)
    by_rank = Index("rank", "place")


class Bent(Model, table="bents"):
    """With a field that is packed."""

    kind: Mapped[str]
    bent: Mapped[list[float]]
    by_kind = Index("kind")
    by_bent = Index("bent")
    by_vector = VectorIndex("bent", dimensions=2)


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            for n in range(60):
                session.add(Thing(kind=VALUES[n % len(VALUES)], place="xyz"[n % 3], rank=float(n % 4)))
            session.commit()
        with Session(deployment) as session:
            session.add_all([Partial(place="x", rank=-0.0), Partial(place="x", rank=0.0), Partial(rank=3.0)])
            session.commit()
        yield deployment


@pytest.fixture
def tallied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each read of groups was answered by the entries of an index."""
    answers: list[bool] = []

    def tally(*arguments: Any) -> ReadResult | None:
        answer = tally_keys(*arguments)
        answers.append(answer is not None)
        return answer

    monkeypatch.setattr(walks, "tally_keys", tally)
    return answers


EVERY = Thing.query().full_scan()
AT_X = Thing.query().by_index("by_place", place="x")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "grouped",
    [
        lambda order: EVERY.order(order).group_by(Thing.kind),
        lambda order: EVERY.order(order).group_by(Thing.rank, Thing.place),
        lambda order: EVERY.order(order).group_by(Thing.place, Thing.kind, Thing.rank),
        lambda order: Thing.query().by_index("by_kind", Thing.kind >= "a").order(order).group_by(Thing.kind),
        lambda order: Thing.query().by_index("by_kind", kind="a\0").order(order).group_by(Thing.kind),
        lambda order: Thing.query().by_index("by_place").order(order).group_by(Thing.kind),
        lambda order: AT_X.order(order).group_by(Thing.rank),
        lambda order: AT_X.order(order).group_by(Thing.place, Thing.rank),
        lambda order: Thing.query().by_index("by_place", Thing.rank > 1, place="x").order(order).group_by(Thing.rank),
    ],
)
def test_groups_of_an_index(grouped: Any, order: str, deployment: Deployment, tallied: list[bool]) -> None:
    quick = grouped(order).count()
    with Session(deployment) as session:
        found = session.all(quick)
        assert tallied == [True]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(walks, "tally_keys", lambda *_: None)
            patch.setattr(walks, "fold_rows", lambda *_: None)
            assert repr(session.all(quick)) == repr(found)
    assert found


@pytest.mark.parametrize(
    "query",
    [
        EVERY.group_by(Thing.place).count(),
        EVERY.group_by(Thing.kind).sum(Thing.rank),
        AT_X.group_by(Thing.kind).count(),
        AT_X.group_by(Thing.place).count(),
        Thing.query().by_index("by_kind", Thing.kind >= "a").group_by(Thing.kind, Thing.place).count(),
        Thing.query().by_index("by_place", rank=1, place="x").where(Thing.kind != 1).group_by(Thing.rank).count(),
        Thing.query().where(Thing.kind.in_(["a", "aa"])).group_by(Thing.kind).count(),
    ],
    ids=lambda query: query.explain(),
)
def test_other_groups_are_found_of_documents(query: Any, deployment: Deployment, tallied: list[bool]) -> None:
    with Session(deployment) as session:
        session.all(query)
    assert tallied == [False]


def test_a_field_that_is_packed(tallied: list[bool]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Bent(kind="ab"[n % 2], bent=[float(n % 3), 1.0]) for n in range(9)])
        session.commit()
        everything = Bent.query().full_scan()
        assert session.all(everything.group_by(Bent.kind).count()) == [("a", 5), ("b", 4)]
        assert session.all(everything.group_by(Bent.bent).count()) == [([first, 1.0], 3) for first in (0.0, 1.0, 2.0)]
    assert tallied == [True, True]


def test_groups_of_nothing(tallied: list[bool]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        assert session.all(EVERY.group_by(Thing.kind).count()) == []
        session.add(Thing())
        session.commit()
        assert session.all(Thing.query().by_index("by_kind", kind="none").group_by(Thing.kind).count()) == []
    assert tallied == [True]
