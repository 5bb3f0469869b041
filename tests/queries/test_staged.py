"""Indexes that Convex is still building."""

from __future__ import annotations

import pytest

from convexorm import (
    FullTableScanError,
    Index,
    IndexRangeError,
    Mapped,
    Model,
    Schema,
    SearchIndex,
    ValidationError,
    VectorIndex,
    connect,
    to_typescript,
)
from convexorm.sessions import Session


class Parcel(Model, table="parcels"):
    owner: Mapped[str]
    weight: Mapped[float]
    by_owner = Index("owner")
    by_weight = Index("weight", staged=True)


class Ready(Model, table="parcels"):
    owner: Mapped[str]
    weight: Mapped[float]
    by_owner = Index("owner")
    by_weight = Index("weight")


def test_a_staged_index_is_deployed_and_not_read_through() -> None:
    assert '.index("by_weight", { fields: ["weight"], staged: true })' in to_typescript(
        Schema.of([Parcel.__mapper__.table])
    )
    heavy = Parcel.weight > 1.0
    with pytest.raises(FullTableScanError) as refused:
        Parcel.query().where(heavy).plan()
    assert refused.value.indexes == ("by_owner",)
    with pytest.raises(IndexRangeError, match="staged"):
        Parcel.query().by_index("by_weight")
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Parcel(owner="ada", weight=2.0))
        session.commit()
        assert session.count(Parcel.query().full_scan().where(heavy)) == 1
        with Session(deployment) as other:  # once it is built
            assert other.count(Ready.query().where(Ready.weight > 1.0)) == 1


class Letter(Model, table="letters"):
    text: Mapped[str]
    sense: Mapped[list[float]]
    by_text = SearchIndex("text", staged=True)
    by_sense = VectorIndex("sense", dimensions=2, filter_fields=("text",), staged=True)


def test_what_is_searched_may_be_staged_too() -> None:
    written = to_typescript(Schema.of([Letter.__mapper__.table]))
    assert '.searchIndex("by_text", { searchField: "text", staged: true })' in written
    assert '{ vectorField: "sense", dimensions: 2, filterFields: ["text"], staged: true }' in written
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Letter(text="fig", sense=[1.0, 0.0]))
        session.commit()
        with pytest.raises(IndexRangeError, match="'by_text' of table 'letters': it is staged"):
            session.search_text(Letter.by_text, "fig")
        with pytest.raises(IndexRangeError, match="'by_sense' of table 'letters': it is staged"):
            session.search(Letter.by_sense, [1.0, 0.0])
    with pytest.raises(ValidationError, match="staged is True or False"):
        SearchIndex("text", staged="yes")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="staged is True or False"):
        VectorIndex("sense", dimensions=2, staged=None)  # type: ignore[arg-type]
