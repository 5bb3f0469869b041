"""Indexes over what is inside a column's value: kept by changes, and read by conditions on the place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from convexorm import Deployment, Index, Mapped, Model, Session, ValidationError, connect, field
from convexorm.types import JsonTextType
from tests.conftest import serve_models


@attrs.define
class Talk:
    type: Literal["talk"]
    minutes: float


@attrs.define
class Walk:
    type: Literal["walk"]
    place: str


class Memory(Model, table="memories"):
    player: Mapped[str]
    data: Mapped[Talk | Walk]
    by_player_type = Index("player", "data.type")
    by_minutes = Index("data.minutes")


@pytest.fixture(params=["memory", "host"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    if request.param == "memory":
        with connect("memory:") as found:
            yield found
        return
    with serve_models(tmp_path, Memory) as host, host.connect() as found:
        yield found


def test_an_index_over_the_inside_of_a_value(deployment: Deployment) -> None:
    talks = [Memory(player=player, data=Talk("talk", minutes)) for player, minutes in (("p", 3.0), ("p", 1.0), ("q", 2.0))]
    walk = Memory(player="p", data=Walk("walk", "the park"))
    with Session(deployment) as session:
        session.add_all([*talks, walk])
        session.commit()
    kind, minutes = Memory.data["type"], Memory.data["minutes"]
    with Session(deployment) as session:

        def found(query: Any) -> list[Any]:
            return [one.data.minutes if isinstance(one.data, Talk) else one.data.place for one in session.all(query)]

        assert found(Memory.query().by_index("by_minutes")) == ["the park", 1.0, 2.0, 3.0]
        assert found(Memory.query().by_index("by_player_type", kind == "talk", player="p")) == [3.0, 1.0]
        assert found(Memory.query().by_index("by_minutes", minutes > 1).order("desc")) == [3.0, 2.0]
        for query, index in (
            (Memory.query().where(Memory.player == "p", kind == "walk"), 'player = "p" and data.type = "walk"'),
            (Memory.query().where(minutes >= 2), "data.minutes >= 2"),
            (Memory.query().where(Memory.player == "p", kind.in_(["talk", "walk"])), 'data.type = "walk"'),
        ):
            assert index in query.explain()
            assert "filter  none" in query.explain()
        assert found(Memory.query().where(Memory.player == "p", kind == "walk")) == ["the park"]
        assert found(Memory.query().where(minutes >= 2)) == [2.0, 3.0]
        assert session.count(Memory.query().where(Memory.player == "p", kind.in_(["talk", "walk"]))) == 3
        (three,) = session.all(Memory.query().by_index("by_minutes", minutes == 3))
        three.data = Talk("talk", 0.5)
        session.commit()
        session.expunge_all()
        assert found(Memory.query().by_index("by_minutes", minutes > 0)) == [0.5, 1.0, 2.0]
        assert session.update_all(Memory.query().by_index("by_minutes", minutes > 1.5), {Memory.player: "z"}) == 1
        assert session.count(Memory.query().by_index("by_player_type", kind == "talk", player="z")) == 1
        page = session.page(Memory.query().by_index("by_minutes"), 2)
        assert [one.data.type for one in page.items] == ["walk", "talk"]
        rest = session.page(Memory.query().by_index("by_minutes"), 10, cursor=page.cursor)
        assert [one.data.minutes for one in rest.items if isinstance(one.data, Talk)] == [1.0, 2.0]
        session.delete_range(Memory.query().by_index("by_player_type", kind == "talk", player="p"))
        session.commit()
        assert session.count(Memory.query().by_index("by_minutes")) == 2


def test_no_index_is_over_the_inside_of_json_text() -> None:
    with pytest.raises(ValidationError, match=r"names 'meta\.topic'"):

        class Noted(Model, table="noted"):
            meta: Mapped[dict[str, Any]] = field(type=JsonTextType())
            by_topic = Index("meta.topic")
