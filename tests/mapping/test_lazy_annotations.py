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
from uuid import uuid4

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


_DECLARED = """
import dataclasses, enum, uuid
from typing import Generic, NamedTuple, TypedDict, TypeVar
from convexorm import Index, Mapped, Model, Related, RelatedList, UNSET, field, relationship

T = TypeVar("T")

class Stamped:
    state: Mapped[State] = field(default=None)

class Payload(Model, Generic[T]):
    payload: Mapped[T]

class Case(Stamped, Payload[list[bool]], table="cases", primary_key="id"):
    id: Mapped[str]
    parts: Mapped[list[Part]] = field(factory=list)
    exhibits: RelatedList[Exhibit] = relationship("by_case")
    by_case_id = Index("id")

class Exhibit(Model, table="exhibits"):
    case_id: Mapped[str] = field(references=Case, default=UNSET)
    case: Related[Case] = relationship("case_id")
    by_case = Index("case_id")

class State(enum.Enum):
    OPEN = 1.0

@dataclasses.dataclass
class Part:
    pair: Pair
    more: More

class Pair(NamedTuple):
    one: int
    two: uuid.UUID

class More(TypedDict):
    state: State
"""


@pytest.mark.parametrize("name", [None, "nowhere", "json"])
@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once before Python 3.14")
def test_names_that_come_later_are_found_by_python_itself(name: str | None) -> None:
    _stores(_executed(_DECLARED, name))


@pytest.mark.parametrize("name", [None, "json"])
def test_what_is_executed_as_text_sees_its_own_names(name: str | None) -> None:
    _stores(_executed("from __future__ import annotations" + _DECLARED, name))


def _executed(text: str, name: str | None) -> dict[str, Any]:
    """The names of a text that is executed where no module is, or with the name of another one."""
    names: dict[str, Any] = {} if name is None else {"__name__": name}
    exec(compile(text, "<declared>", "exec", dont_inherit=True), names)
    return names


def _stores(names: dict[str, Any]) -> None:
    part = names["Part"](names["Pair"](1, uuid4()), {"state": names["State"].OPEN})
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            case = names["Case"](id="a", payload=[True, False], state=names["State"].OPEN, parts=[part])
            case.exhibits.append(names["Exhibit"]())
            session.add(case)
            session.commit()
        with Session(deployment) as session:
            found = session.get_one(names["Case"], "a", load=[names["Case"].exhibits])
            assert (found.payload, found.state, found.parts) == ([True, False], names["State"].OPEN, [part])
            assert [one.case for one in found.exhibits] == [found]
