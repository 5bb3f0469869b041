"""Annotations as Python 3.14 gives them: evaluated when they are asked for, later names as forward references.

`annotationlib` is simulated on the Pythons before: its `get_annotations` answers what 3.14's does for a class body whose
names are not all there yet, the whole annotation as a reference or only the name in it.
"""

from __future__ import annotations

import enum
import inspect
import sys
import types
import typing
from typing import Any

import pytest

from convexorm import Index, Mapped, Model, Session, connect, field
from convexorm.types import names


class Format(enum.Enum):
    FORWARDREF = 3


@pytest.fixture(params=["whole", "names"])
def lazily(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has annotations written as texts read as 3.14 does those that are not."""

    def get_annotations(owner: type, *, format: Format) -> dict[str, Any]:
        assert format is Format.FORWARDREF
        found: dict[str, Any] = {}
        for name, text in inspect.get_annotations(owner).items():
            if not text.startswith("Mapped["):
                found[name] = eval(text)
            elif request.param == "whole":
                found[name] = typing.ForwardRef(text, is_class=True)
            else:
                reference: Any = typing.ForwardRef(text.removeprefix("Mapped[").removesuffix("]"), is_class=True)
                found[name] = Mapped[reference]
        return found

    monkeypatch.setitem(
        sys.modules,
        "annotationlib",
        types.SimpleNamespace(get_annotations=get_annotations, Format=Format),
    )
    monkeypatch.setattr(names, "sys", types.SimpleNamespace(version_info=(3, 14), modules=sys.modules))


@pytest.mark.usefixtures("lazily")
def test_columns_of_names_that_come_later_are_found_when_they_are_first_used() -> None:
    class Drawing(Model, table="drawings"):
        title: Mapped[str] = field(default="")
        colour: Mapped[Colour | None] = field(default=None)
        others: Mapped[list[Colour]] = field(factory=list)
        limit: typing.ClassVar[int] = 3

    class Colour(enum.Enum):
        RED = "red"
        BLUE = "blue"

    assert list(Drawing.__mapper__.columns) == ["title", "colour", "others"]
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add(Drawing(title="x", colour=Colour.RED, others=[Colour.BLUE]))
            session.commit()
        with Session(deployment) as session:
            (found,) = session.all(Drawing.query().full_scan())
            assert (found.title, found.colour, found.others) == ("x", Colour.RED, [Colour.BLUE])


@pytest.mark.usefixtures("lazily")
def test_a_subclass_in_its_parents_table_has_columns_of_both() -> None:
    class Shape(Model, table="shapes", primary_key="id", discriminator_field="kind"):
        id: Mapped[str]
        by_shape_id = Index("id")

    class Circle(Shape, discriminator="circle"):
        radius: Mapped[float] = field(default=1.0)

    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add(Circle(id="a", radius=2.0))
            session.commit()
        with Session(deployment) as session:
            found = session.get_one(Shape, "a")
            assert isinstance(found, Circle)
            assert found.radius == 2.0
