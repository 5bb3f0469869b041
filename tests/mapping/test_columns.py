"""What an annotation makes of a column: what it takes, what it refuses and where, and what its own types may do."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import importlib
import math
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import numpy as np
import pytest
import typing_extensions

from convexorm import (
    Counter,
    Deployment,
    Index,
    Int64,
    InvalidRequestError,
    IsoDatetime,
    JsonText,
    Mapped,
    Model,
    SearchIndex,
    Session,
    Sum,
    ValidationError,
    VectorIndex,
    connect,
    field,
)
from convexorm.conditions import Condition
from convexorm.faces import finish
from convexorm.requests import Commit, Insert
from convexorm.schema import AnyOf, Object, Property, String
from convexorm.types import ColumnType, FloatType, StrType, column_type
from convexorm.types.scalars import IntType
from convexorm.values import Value
from tests.conftest import Host, serve_models
from tests.models import Anything, Note, Task

K = TypeVar("K")
T = TypeVar("T")
NOON = datetime(2024, 5, 17, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


def model_of(annotation: Any, **details: Any) -> type[Any]:
    """A model with a column `v` of this annotation."""
    body = {"__annotations__": {"v": Mapped[annotation]}, "__module__": __name__, "v": field(**details)}
    return type("Made", (Model,), body, table="made")


@dataclasses.dataclass
class Part:
    tags: dict[str, str]
    weight: float | None = None


@dataclasses.dataclass
class Finer(Part):
    colour: str = "red"


@dataclasses.dataclass
class Measured:
    raw: int
    double: int = dataclasses.field(init=False)
    at: IsoDatetime = dataclasses.field(default=NOON.replace(microsecond=0), kw_only=True)

    def __post_init__(self) -> None:
        self.double = self.raw * 2


def _one_more(value: float) -> float:
    return value + 1


@attrs.define
class Rounded:
    size: float = attrs.field(converter=_one_more)


@dataclasses.dataclass
class Split:
    """Takes text, holds a list, and does not take that."""

    tags: list[str]

    def __post_init__(self) -> None:
        self.tags = self.tags.split(",")  # type: ignore[attr-defined]


@dataclasses.dataclass(init=False)
class Parsed:
    number: int

    def __init__(self, text: str) -> None:
        self.number = int(text)


def _split(text: str) -> list[str]:
    return text.split(",")


@attrs.define
class Listed:
    tags: list[str] = attrs.field(converter=_split)


class Grown:
    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        return "" if instance is None else instance.__dict__[self.name]

    def __set__(self, instance: Any, value: str) -> None:
        instance.__dict__[self.name] = value + "!"


@dataclasses.dataclass
class Growing:
    text: str = Grown()  # type: ignore[assignment]


@attrs.define(slots=False)
class Louder:
    text: str

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value + "!" if name == "text" else value


@dataclasses.dataclass
class Marked:
    text: str

    def __setattr__(self, name: str, value: str) -> None:
        super().__setattr__(name, value + "!")


@attrs.define
class Positive:
    number: int = attrs.field(validator=attrs.validators.gt(0))


def _no_longer(positive: Positive) -> Positive:
    object.__setattr__(positive, "number", -1)
    return positive


@dataclasses.dataclass
class Sorted:
    """Does something to its fields, and takes them again."""

    tags: list[str]
    first: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.tags.sort()
        self.first = self.tags[0]


class Point(NamedTuple):
    x: int
    y: int = 0


class Square(NamedTuple("Square", [("width", int), ("height", int)])):
    """A named tuple that is made of less than it holds."""

    def __new__(cls, side: int) -> Square:
        return super().__new__(cls, side, side)


class Options(TypedDict):
    at: datetime
    name: NotRequired[str]


class Valued(TypedDict, Generic[T]):
    item: T


class Numbered(Valued[int]):
    name: str


class Colour(enum.Enum):
    RED = "red"


class Other(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    A = "a"


# -- where it goes wrong -------------------------------------------------------------------------------------------


class Label(str):
    """A text that is equal to itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclasses.dataclass(frozen=True, eq=False)
class Coin:
    """Each is another one, whatever it is worth."""

    worth: int


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (list[Part], [Part({}), Part({"x": 5})], 'made.v[1].tags["x"]: expected str, got int'),  # type: ignore[dict-item]
        (dict[str, list[int]], {"a": [1, True]}, 'made.v["a"][1]: expected int, got bool'),
        (tuple[int, str], (1, 2), "made.v[1]: expected str, got int"),
        (tuple[int, str], (1, "a", "more"), "made.v: expected tuple[int, str], got 3 elements"),
        (tuple[int, str], (1,), "made.v: expected tuple[int, str], got 1 elements"),
        (Options, {"name": "x"}, 'made.v["at"]: missing'),
        (Options, {"at": NOON, "nam": "x"}, 'made.v["nam"]: no such key; Options has at, name'),
        (Any, {"a": [{"b": NOON}]}, 'made.v["a"][0]["b"]: a datetime loses its type here'),
        (dict[str, Any], {"a": (1,)}, 'made.v["a"]: a tuple loses its type here'),
        (JsonText, {"a": [{1: "c", "1": "b"}]}, 'made.v["a"][0]: the keys of JSON are str, got int'),
        (dict[str, int], {"é": 1}, "made.v: object key"),
        (str, 5, "made.v: expected str, got int"),
        (list[str], "urgent", "made.v: expected list[str], got str"),
        (list[str], (letter for letter in "ab"), "made.v: expected list[str], got generator"),
        (list[str], map(str, [1]), "made.v: expected list[str], got map"),
        (list[str], {"a": "b"}.values(), "made.v: expected list[str], got dict_values"),
        (list[str], {"a": "b"}, "made.v: expected list[str], got dict"),
        (Part, Finer({}), "made.v: expected Part, got Finer"),
        (list[Part], [Finer({})], "made.v[0]: expected Part, got Finer"),
        (Point, (1, 2), "made.v: expected Point, got tuple"),
        (tuple[int, int], Point(1, 2), "made.v: expected tuple[int, int], got Point"),
        (Colour, Other.RED, "made.v: expected Colour, got Other"),
        (Colour, "red", "made.v: expected Colour, got str"),
        (UUID, "not a uuid", "made.v: expected UUID, got a str that is none"),
        (list[UUID], [None], "made.v[0]: expected UUID, got NoneType"),
        (date, NOON, "made.v: expected date, got datetime"),
        (datetime, datetime.max.replace(tzinfo=UTC), "made.v: a time outside of the years 1 to 9999 of UTC"),
        (Decimal, 1.5, "made.v: expected Decimal, got float"),
        (float, math.nan, "made.v: NaN cannot be stored as a number"),
        (list[float], [1.0, math.nan], "made.v[1]: NaN cannot be stored as a number"),
        (timedelta, timedelta.max, "made.v: a timedelta beyond 285 years"),
        (Any, {Word.A: Colour.RED}, 'made.v["a"]: expected a value of JSON or bytes, got Colour'),
        (Literal["a", "b"], "c", "made.v: expected 'a' or 'b', got another str"),
        (list, {"a": 1}, "made.v: expected list[Any], got dict"),
        (dict, [1], "made.v: expected dict[str, Any], got list"),
        (list[Split], [Split("a,b")], "made.v[0]: Split does not take again what it holds"),  # type: ignore[arg-type]
        (Parsed, Parsed("3"), "made.v: Parsed does not take again what it holds, so it could not be loaded"),
        (Listed, Listed("a,b"), "made.v: Listed does not take again what it holds"),
        (Positive, _no_longer(Positive(1)), "made.v: Positive does not take again what it holds"),
        (Growing, Growing("a"), "made.v: Growing does not hold what it is given, so it would be loaded as another value"),
        (list[Louder], [Louder("a")], "made.v[0]: Louder does not hold what it is given"),
        (dict[str, int], {Label("a"): 1, Label("a"): 2}, "made.v: two of its keys are the same text"),
        (list[Any], [{Label("a"): 1, Label("a"): 2}], "made.v[0]: two of its keys are the same text"),
        (JsonText, [{Label("a"): 1, Label("a"): 2}], "made.v[0]: two of its keys are the same text"),
        (set[UUID], {"A" * 32, "a" * 32}, "made.v: two of its members are stored as one value"),
        (list[frozenset[Coin]], [frozenset({Coin(1), Coin(1)})], "made.v[0]: two of its members are stored as one value"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_path_and_writes_nothing(annotation: Any, value: Any, words: str) -> None:
    made = model_of(annotation)
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(made(v=value))
        with pytest.raises(ValidationError) as refused:
            session.commit()
        assert str(refused.value).startswith(words)
        assert (refused.value.table, refused.value.field) == ("made", "v")
        assert Session(deployment).count(made.query().full_scan()) == 0


class Nat(datetime):
    """As pandas has it: a datetime that equals nothing, itself least of all."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


class Broken(tzinfo):
    def utcoffset(self, at: datetime | None) -> timedelta:
        raise RuntimeError("no offset")

    def dst(self, at: datetime | None) -> timedelta | None:
        return None

    def tzname(self, at: datetime | None) -> str | None:
        return None


class Lazy(collections.abc.Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise OSError("not there")

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (datetime, datetime(2024, 1, 1, tzinfo=Broken()), "this datetime raises RuntimeError"),
        (list[IsoDatetime], [datetime(2024, 1, 1, tzinfo=Broken())], "this list raises RuntimeError"),
        (dict[str, int], Lazy(), "this Lazy raises OSError"),
        (Any, Lazy(), "this Lazy raises OSError"),
        (JsonText, Lazy(), "this Lazy raises OSError"),
    ],
)
def test_a_value_whose_own_code_fails_is_refused(annotation: Any, value: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=f"^made.v: {words} when it is looked at") as refused:
        stored(annotation, value)
    assert isinstance(refused.value.__cause__, RuntimeError | OSError)


class Inflated(int):
    def __int__(self) -> int:
        return 99


def test_an_int_of_a_subclass_is_the_number_it_is() -> None:
    assert (stored(int, Inflated(5)), stored(Int64, Inflated(5)), stored(Any, Inflated(5))) == (5, 5, 5)


@pytest.mark.parametrize("annotation", [datetime, IsoDatetime])
def test_a_datetime_that_is_no_time_is_refused(annotation: Any) -> None:
    with pytest.raises(ValidationError, match="no time"):
        column_type(annotation).dump(Nat(2024, 1, 1, tzinfo=UTC))


# -- what is taken for what ----------------------------------------------------------------------------------------


def stored(annotation: Any, value: Any) -> Any:
    """What another session reads of a value."""
    made = model_of(annotation)
    with connect("memory:") as deployment, Session(deployment) as session:
        one = made(v=value)
        session.add(one)
        session.commit()
        return Session(deployment).get_one(made, one.convex_id).v


@pytest.mark.parametrize(
    ("annotation", "value", "loaded"),
    [
        (list[int], (1, 2), [1, 2]),
        (list[int], range(2), [0, 1]),
        (list[int], collections.deque([1]), [1]),
        (list[float], np.array([1.0, 2.0]), [1.0, 2.0]),
        (list[list[float]], [np.array([1.0])], [[1.0]]),
        (set[str], {"a": 1}.keys(), {"a"}),
        (dict[str, int], collections.OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (str, Word.A, "a"),
        (str, np.str_("é"), "é"),
        (bool, np.bool_(True), True),
        (Decimal, 3, Decimal(3)),
        (UUID, "{12345678-1234-5678-1234-567812345678}", UUID("12345678-1234-5678-1234-567812345678")),
        (Any, {"a": [1.0, 1.5, np.int64(2)]}, {"a": [1, 1.5, 2]}),
        (Measured, Measured(3), Measured(3)),
        (Rounded, Rounded(1.0), Rounded(1.0)),
        (Positive, Positive(1), Positive(1)),
        (Square, Square(2), Square(2)),
        (list, (1, "a"), [1, "a"]),
        (list[list | None], [None, [1]], [None, [1]]),  # type: ignore[type-arg]
        (dict[str, dict | None], {"a": None, "b": {}}, {"a": None, "b": {}}),  # type: ignore[type-arg]
        (typing.Tuple, (1, "a"), (1, "a")),  # noqa: UP006
        (Literal[1, 2], np.int64(2), 2),
        (Literal[True, "x"], np.bool_(True), True),
        (Numbered, {"item": 1, "name": "x"}, {"item": 1, "name": "x"}),
        (Options, {"at": NOON}, {"at": NOON}),
        (list[Literal["a", None]], ["a", None], ["a", None]),
        (Annotated[int | None, "years"], None, None),
        (Marked, Marked("a"), Marked("a")),
    ],
)
def test_a_value_is_taken_for_what_it_plainly_means(annotation: Any, value: Any, loaded: Any) -> None:
    found = stored(annotation, value)
    assert found == loaded
    assert type(found) is type(loaded)


def test_to_be_stored_changes_nothing_of_a_value() -> None:
    tags = ["b", "a"]
    one = Sorted(tags)
    tags.append("0")
    found = stored(Sorted, one)
    assert (found.tags, found.first) == (tags, "a")
    assert tags == ["a", "b", "0"]


def test_a_typed_dict_of_a_generic_one_checks_what_it_is_of() -> None:
    with pytest.raises(ValidationError, match=r'made\.v\["item"\]: expected int, got str'):
        stored(Numbered, {"item": "x", "name": "x"})


D = typing_extensions.TypeVar("D", default=int)


@dataclasses.dataclass
class Twice(Generic[T]):
    one: Holder[T]
    others: list[Holder[T]]


@dataclasses.dataclass
class Whole(Generic[D]):
    number: D


@dataclasses.dataclass
class Endless(Generic[T]):
    more: list[Endless[list[T]]]


def test_a_generic_class_may_stand_inside_of_itself_with_another_type() -> None:
    inner = Twice(Holder(1), [Holder(2)])
    assert stored(Twice[Twice[int]], Twice(Holder(inner), [])) == Twice(Holder(inner), [])
    assert stored(Holder[Holder[list[Holder[str]]]], Holder(Holder([Holder("a")]))) == Holder(Holder([Holder("a")]))
    with pytest.raises(ValidationError, match="expected int, got str") as refused:
        stored(Twice[Twice[int]], Twice(Holder(Twice(Holder("x"), [])), []))
    assert refused.value.path == ".one.item.one.item"
    with pytest.raises(ValidationError, match="no Convex type for Endless, which holds itself"):
        model_of(Endless[int])


def test_a_type_variable_that_is_told_no_type_stands_for_its_default() -> None:
    assert stored(Whole, Whole(1)) == Whole(1)
    assert stored(Whole[str], Whole("a")) == Whole("a")
    with pytest.raises(ValidationError, match=r"made\.v\.number: expected int, got str"):
        stored(Whole, Whole("a"))


class Limit(enum.Enum):
    NONE = math.inf
    LEAST = -math.inf
    BELOW = -0.0
    HALF = 0.5


def test_every_value_of_an_enum_is_taken_by_every_deployment(tmp_path: Path) -> None:
    class Limited(Model, table="limited"):
        limit: Mapped[Limit]
        by_limit = Index("limit")

    with serve_models(tmp_path, Limited) as host, host.connect() as remote, connect("memory:") as embedded:
        for deployment in (remote, embedded):
            with Session(deployment) as session:
                session.add_all(Limited(limit=limit) for limit in Limit)
                session.commit()
            with Session(deployment) as session:
                for limit in Limit:
                    assert session.one(Limited.query().by_index("by_limit", limit=limit)).limit is limit


def test_objects_load_with_their_keys_in_convexs_order(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        session.add(Anything(key=unique, a={"b": 1, "10": {"z": 1, "y": 2}, "9": 3}))
        session.commit()
    with Session(deployment) as session:
        found = session.get_one(Anything, unique).a
        assert list(found) == ["10", "9", "b"]
        assert list(found["10"]) == ["y", "z"]


def test_a_whole_number_in_any_is_an_int_wherever_it_stands(deployment: Deployment, unique: str) -> None:
    values = [1.0, [2.0, "x"], {"a": {"b": 3.0}}, [[4.0], 1.5]]
    with Session(deployment) as session:
        session.add_all(Anything(key=f"{unique}{place}", a=value, b=float(place)) for place, value in enumerate(values))
        session.commit()
    with Session(deployment) as session:
        found = [session.get_one(Anything, f"{unique}{place}").a for place in range(len(values))]
    assert repr(found) == "[1, [2, 'x'], {'a': {'b': 3}}, [[4], 1.5]]"


class Own(datetime):
    """As other packages have one."""


def test_iso_times_keep_milliseconds_and_show_it_at_once() -> None:
    class Visit(Model, table="visits"):
        at: Mapped[IsoDatetime]
        left: Mapped[IsoDatetime | None] = field(default=None)

    visit = Visit(at=NOON)
    assert visit.at == NOON.replace(microsecond=123_000)
    for noon in (NOON, Own(2024, 5, 17, 12, 0, 0, 123_456, tzinfo=UTC)):
        visit.left = noon
        assert visit.left == NOON.replace(microsecond=123_000)
        assert type(visit.left) is type(noon)


@dataclasses.dataclass
class Stay:
    came: IsoDatetime
    went: IsoDatetime | None = None


@attrs.frozen
class Stop:
    times: tuple[IsoDatetime, ...]


class Leg(NamedTuple):
    at: IsoDatetime
    n: int = 0


class Parting(TypedDict):
    kind: Literal["parting"]


class Meeting(TypedDict):
    kind: Literal["meeting"]
    at: IsoDatetime


class Timed(TypedDict):
    at: NotRequired[IsoDatetime]


CUT = NOON.replace(microsecond=123_000)


@pytest.mark.parametrize(
    ("annotation", "made", "shown"),
    [
        (list[IsoDatetime], lambda at: [at], [CUT]),
        (list[IsoDatetime] | None, lambda at: [at], [CUT]),
        (tuple[IsoDatetime, ...], lambda at: (at, at), (CUT, CUT)),
        (tuple[int, IsoDatetime], lambda at: (1, at), (1, CUT)),
        (set[IsoDatetime], lambda at: {at}, {CUT}),
        (frozenset[IsoDatetime], lambda at: frozenset({at}), frozenset({CUT})),
        (dict[str, IsoDatetime | None], lambda at: {"a": at, "b": None}, {"a": CUT, "b": None}),
        (Stay, lambda at: Stay(at), Stay(CUT)),
        (list[Stay], lambda at: [Stay(at, at)], [Stay(CUT, CUT)]),
        (Stop, lambda at: Stop((at,)), Stop((CUT,))),
        (dict[str, list[Stop]], lambda at: {"a": [Stop((at,))]}, {"a": [Stop((CUT,))]}),
        (Leg, lambda at: Leg(at, 1), Leg(CUT, 1)),
        (Timed, lambda at: {"at": at}, {"at": CUT}),
        (int | IsoDatetime, lambda at: at, CUT),
        (list[datetime | IsoDatetime], lambda at: [at], [NOON]),  # as the first that takes it
        (list[Parting | Meeting], lambda at: [{"kind": "meeting", "at": at}], [{"kind": "meeting", "at": CUT}]),
    ],
)
def test_iso_times_in_anything_keep_milliseconds_and_show_it_at_once(annotation: Any, made: Any, shown: Any) -> None:
    model = model_of(annotation)
    with connect("memory:") as deployment, Session(deployment) as session:
        one = model(v=made(NOON))
        assert one.v == shown
        one.v = given = made(NOON)
        assert one.v == shown
        assert one.v is given or not isinstance(given, list | dict | set | Stay)  # whoever made it may go on with it
        session.add(one)
        session.commit()
        assert (one.v, session.dirty) == (shown, [])
        assert Session(deployment).one(model.query().full_scan()).v == shown


def test_what_is_put_into_a_list_shows_as_it_is_stored_once_it_is() -> None:
    model = model_of(list[Stay])
    with connect("memory:") as deployment, Session(deployment) as session:
        one = model(v=[])
        session.add(one)
        for _ in range(2):  # a new one, and one that is stored
            one.v.append(Stay(NOON))
            session.commit()
            assert one.v[-1] == Stay(CUT)
        assert session.dirty == []


def test_a_value_of_a_union_is_shown_as_the_member_that_takes_it() -> None:
    model = model_of(Decimal | int)
    assert (type(model(v=1).v), type(model(v=Decimal(1)).v)) == (int, Decimal)
    assert (type(stored(Decimal | int, 1)), type(stored(Decimal | int, Decimal(1)))) == (int, Decimal)


def test_what_stands_for_a_value_stays_in_a_list_what_it_is() -> None:
    ids = [str(UUID(int=1))]
    assert model_of(list[UUID])(v=ids).v is ids
    assert ids == [str(UUID(int=1))]
    assert model_of(list[IsoDatetime])(v=(NOON,)).v == (CUT,)
    assert stored(list[UUID], ids) == [UUID(int=1)]


def test_a_time_between_two_milliseconds_is_compared_as_what_it_is() -> None:
    class Visit(Model, table="visits"):
        at: Mapped[IsoDatetime]

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Visit(at=NOON))
        session.commit()

        def found(condition: Any) -> bool:
            return session.count(Visit.query().where(condition).full_scan()) == 1

        assert found(Visit.at < NOON)
        assert found(Visit.at <= NOON)
        assert not found(Visit.at >= NOON)
        assert not found(Visit.at > NOON)
        assert found(Visit.at == NOON)  # it is stored as what NOON is stored as


def test_the_text_of_a_uuid_is_the_uuid() -> None:
    class Owned(Model, table="owned", primary_key="id"):
        id: Mapped[UUID]
        by_uuid = Index("id")

    text = "ABCDEF78-1234-5678-1234-567812345678"
    with connect("memory:") as deployment, Session(deployment) as session:
        owned = Owned(id=text)  # type: ignore[arg-type]
        assert owned.id == UUID(text)
        session.add(owned)
        session.commit()
        assert Session(deployment).get(Owned, UUID(text)) is not None
        assert Session(deployment).get(Owned, text) is not None


def test_decimals_are_found_by_their_value_and_have_no_order() -> None:
    class Price(Model, table="prices"):
        amount: Mapped[Decimal]
        by_amount = Index("amount")

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all(Price(amount=Decimal(text)) for text in ("1.10", "1.1", "11e-1", "1E+3", "-0", "Infinity"))
        session.commit()
        assert session.count(Price.query().by_index("by_amount", amount=Decimal("1.100"))) == 3
        assert session.count(Price.query().by_index("by_amount", amount=1000)) == 1
        comparisons: list[Any] = [Price.amount.__lt__, Price.amount.__ge__]
        for compare in comparisons:
            with pytest.raises(ValidationError, match=r"prices\.amount: a Decimal is stored in a form that has another"):
                compare(Decimal(2))


class Urgency(enum.Enum):
    """Has an order of its own."""

    LOW = "low"
    HIGH = "high"

    def __lt__(self, other: Urgency) -> bool:
        return self is Urgency.LOW and other is Urgency.HIGH


@dataclasses.dataclass(order=True)
class Version:
    major: int
    build: int = 0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Path, Path("a/b")),
        (set[int], {1}),
        (Version, Version(1)),
        (Point, Point(1)),
        (Urgency, Urgency.LOW),
        (dict[str, int], {}),
        (JsonText, 1),
        (list[Decimal], [Decimal(1)]),
        (tuple[int, Path], (1, Path("a"))),
    ],
)
def test_what_is_stored_in_another_order_than_its_own_is_not_asked_for_it(annotation: Any, value: Any) -> None:
    column = model_of(annotation).v
    for ask in (column.__lt__, column.__ge__, lambda given: column.between(given, given)):
        with pytest.raises(ValidationError, match=r"made\.v: .* is stored in a form that has another order"):
            ask(value)
    assert isinstance(column == value, Condition)


def test_values_that_are_compared_as_python_compares_them_are() -> None:
    for annotation, value in ((Word, Word.A), (Colour, Colour.RED), (list[int], [1]), (tuple[int, str], (1, "a"))):
        assert isinstance(model_of(annotation).v < value, Condition)


# -- spellings -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Holder(Generic[T]):
    item: T


Names: typing.TypeAlias = "dict[str, Holder[Later]]"


class Shelf(Model, table="shelves"):
    """Speaks of what comes later in the module."""

    first: Mapped[Later]
    rest: Mapped[list[Holder[Later | None]]] = field(factory=list)
    named: Mapped[Names] = field(factory=dict)
    LIMIT: typing.ClassVar[int] = 3
    KEPT: typing.Final = 4


@dataclasses.dataclass
class Later:
    text: str


def test_names_that_come_later_are_found_when_they_are_needed() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        shelf = Shelf(first=Later("a"), rest=[Holder(Later("b")), Holder(None)], named={"x": Holder(Later("c"))})
        session.add(shelf)
        session.commit()
        found = Session(deployment).get_one(Shelf, shelf.convex_id)
        assert (found.first, found.rest, found.named) == (shelf.first, shelf.rest, shelf.named)
        assert list(Shelf.__mapper__.columns) == ["first", "rest", "named"]


def test_names_of_a_function_are_found() -> None:
    class Inner(Model, table="inner"):
        value: Mapped[Local | None] = field(default=None)

    @dataclasses.dataclass
    class Local:
        at: datetime

    assert Inner.__mapper__.table.fields["value"] == Property(column_type(Local).validator, optional=True)


def test_a_name_that_never_comes_is_said_when_it_is_needed() -> None:
    class Lost(Model, table="lost"):
        value: Mapped[Nowhere]  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ValidationError, match=r"lost\.value: the annotation names 'Nowhere', which is not there"):
        Lost.query().full_scan().plan()


@attrs.define
class Cat:
    kind: Literal["cat"]
    lives: int


class Dog(TypedDict):
    kind: Literal["dog"]
    loud: bool


def test_a_union_is_told_apart_by_a_literal() -> None:
    type_ = column_type(list[Cat | Dog | str | None])
    values = [Cat("cat", 9), {"kind": "dog", "loud": True}, None, "x"]
    dumped = type_.dump(values)
    assert dumped[0] == {"kind": "cat", "lives": 9}
    assert type_.load(dumped) == values
    assert isinstance(column_type(Cat | Dog).validator, AnyOf)
    with pytest.raises(ValidationError, match=r"another 'kind'"):
        type_.load([{"kind": "cow"}])


class Ink(enum.Enum):
    WET = "wet"


class Paper(enum.Enum):
    THICK = "thick"
    THIN = "thin"


class Inked(TypedDict):
    of: Ink
    at: IsoDatetime


class Papered(TypedDict):
    of: Paper
    at: IsoDatetime


@dataclasses.dataclass
class Message(Generic[K, T]):
    kind: K
    body: T


@attrs.define
class Packet(Generic[K, T]):
    kind: K
    body: T


Counted = Message[Literal["count", "sum"], int] | Message[Literal["note"], str] | Message[Literal["at"], IsoDatetime]
PRECISE = datetime(2026, 1, 1, microsecond=1234, tzinfo=UTC)
ROUNDED = datetime(2026, 1, 1, microsecond=1000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "given", "shown"),
    [
        (Counted, Message("count", 1), Message("count", 1)),
        (Counted, Message("note", "x"), Message("note", "x")),
        (list[Counted], [Message("sum", 2), Message("note", "x")], [Message("sum", 2), Message("note", "x")]),
        (Counted, Message("at", PRECISE), Message("at", ROUNDED)),
        (
            dict[str, Packet[Literal[True], int] | Packet[Literal[1], str] | None],
            {"a": Packet(True, 1), "b": Packet(1, "x"), "c": None},
            {"a": Packet(True, 1), "b": Packet(1, "x"), "c": None},
        ),
        (
            list[Inked | Papered],
            [{"of": Paper.THIN, "at": PRECISE}, {"of": Ink.WET, "at": PRECISE}],
            [{"of": Paper.THIN, "at": ROUNDED}, {"of": Ink.WET, "at": ROUNDED}],
        ),
        (
            Inked | Papered,
            collections.OrderedDict(at=ROUNDED, of=Paper.THIN),
            {"of": Paper.THIN, "at": ROUNDED},
        ),
    ],
)
def test_a_class_is_told_apart_by_what_it_is_of(annotation: Any, given: Any, shown: Any) -> None:
    assert stored(annotation, given) == shown


def test_what_is_of_no_member_of_a_union_is_refused_where_it_is() -> None:
    for value, words in (
        (Message("count", "x"), "made.v.body: expected int, got str"),
        (Message("other", 1), "made.v: expected Message"),
    ):
        with connect("memory:") as deployment, Session(deployment) as session:
            session.add(model_of(Counted)(v=value))
            with pytest.raises(ValidationError) as refused:
                session.commit()
            assert str(refused.value).startswith(words)


class Missing(enum.Enum):
    NONE = None
    HALF = 1.5


class Unhashed(enum.Enum):
    A = "a"
    B = "b"

    def __eq__(self, other: object) -> bool:
        return self is other


def test_an_enum_whose_members_have_no_hash_is_a_column() -> None:
    model = model_of(Unhashed)
    with Session(connect("memory:")) as session:
        session.add(model(v=Unhashed.B))
        session.commit()
        assert session.one(model.query().where(model.v == Unhashed.B).full_scan()).v is Unhashed.B


def test_an_enum_of_none_is_stored_as_null() -> None:
    assert stored(Missing, Missing.NONE) is Missing.NONE


@dataclasses.dataclass
class Tree:
    children: list[Tree]


@dataclasses.dataclass
class Given:
    once: dataclasses.InitVar[int]


class Undecorated(Part):
    """Looks as if it had one more field."""

    colour: str = "red"


class Odd(enum.Enum):
    A = (1, 2)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Tree, "Tree, which holds itself.*Any or JsonText"),
        (Literal[Colour.RED], "a Literal of members of Colour; annotate it as Colour"),
        (Odd, "the enum Odd has values of tuple; str, int, float, bool and None"),
        (Missing | None, "None is a value of Missing already"),
        (int | float, "no Convex type for a union of int and float.*Literal"),
        (Part | Measured, "a union of Part and Measured"),
        (str | UUID, "a union of str and UUID"),
        (int | Any, "use Any alone"),
        (dict[int, str], r"the keys of objects are str. Use dict\[str, ...\]"),
        (collections.OrderedDict[str, int], "use dict"),
        (Iterable[int], "use list"),
        (complex, "no Convex type for complex; store two floats"),
        (Given, "Given.once is an InitVar"),
        (tuple[int, *tuple[str, ...]], "open in its middle"),
        (Holder[T], "the type variable ~T stands for no type here"),  # type: ignore[valid-type]
        (Task, "Task is a model.*store its key"),
        (print, "no Convex type for <built-in function print>; give it one"),
        (Undecorated, "Undecorated.colour is no field; make Undecorated what its base is, too"),
        (dict[str], r"dict\[str\], which is of 1 types in place of 2"),  # type: ignore[misc]
        (list[int, str], r"list\[int, str\], which is of 2 types in place of 1"),  # type: ignore[misc]
        (set[int, str], r"which is of 2 types in place of 1"),  # type: ignore[misc]
        (Literal[()], "a Literal of nothing"),
        (Literal[1, 1.0], "a Literal of an int and a float that are one number"),
        (enum.Flag, "the flag Flag has no members"),
    ],
)
def test_what_cannot_be_supported_is_refused_when_the_class_is_declared(annotation: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as refused:
        model_of(annotation)
    assert (refused.value.table, refused.value.field) == ("made", "v")


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: field(none="nul"), "none is one of 'absent', 'null', 'either', got 'nul'"),  # type: ignore[arg-type]
        (lambda: field(default=1, factory=int), "a default or a factory, not both"),
        (lambda: field(factory=3), "a factory is called"),  # type: ignore[arg-type]
        (lambda: field(type=str), "type is a ColumnType that dumps and loads the values, got the class str"),  # type: ignore[arg-type]
        (lambda: field(name=5), "name is the field's name in Convex, got int"),  # type: ignore[arg-type]
        (lambda: field(name=""), "name is the field's name in Convex, got nothing"),
        (lambda: field(validator=5), "a validator is called with the instance, the attribute and the value, got int"),
        (lambda: field(validator=[attrs.validators.gt(0), "x"]), "a validator is called.*got str"),
        (lambda: Index(5), "an index is told the names of attributes.*got int"),  # type: ignore[arg-type]
        (lambda: Counter(5), "a counter is told the names of attributes, got int"),  # type: ignore[arg-type]
        (lambda: Sum(5), "a counter is told the names of attributes, got int"),  # type: ignore[arg-type]
        (lambda: SearchIndex(5), "an index is told the names of attributes.*got int"),  # type: ignore[arg-type]
        (lambda: VectorIndex("x", dimensions="3"), "dimensions is how many floats a vector has, got str"),  # type: ignore[arg-type]
        (lambda: model_of(Mapped[int]), r"made\.v: Mapped stands around the whole annotation, once"),
        (
            lambda: type("A", (Model,), {"__annotations__": {"x": Mapped[int] | None}}, table="a"),
            r"a\.x: Mapped stands around the whole annotation, once; write Mapped\[int \| None\]",
        ),
        (lambda: model_of(int, default="x"), "made.v: its default cannot be stored: expected int, got str"),
        (lambda: model_of(list[int], default=dataclasses.field(default=3)), "its default cannot be stored"),
        (lambda: model_of(str, name="constructor"), "made.constructor: every object of JavaScript"),
        (lambda: type("A", (Model,), {"x": field()}, table="a"), "a field.. without an annotation"),
        (
            lambda: type("A", (Model,), {"__annotations__": {"x": str}, "by_x": VectorIndex("x", dimensions=3)}, table="a"),
            r"vector index 'by_x' is over 'x', which is no list\[float\]",
        ),
    ],
)
def test_details_that_say_nothing_right_are_refused(declare: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        declare()


# -- types of one's own --------------------------------------------------------------------------------------------


@attrs.frozen
class Money:
    cents: int
    currency: str


class MoneyType(ColumnType[Money]):
    """Text such as `12.50 EUR`."""

    validator = String()
    mutable = False

    def dump(self, value: Money) -> Value:
        return f"{value.cents // 100}.{value.cents % 100:02} {value.currency}"

    def load(self, value: Value) -> Money:
        amount, currency = value.split()
        return Money(int(amount.replace(".", "")), currency)


class Pickier(ColumnType[int]):
    """Nothing but `dump` and `load`."""

    def dump(self, value: int) -> Value:
        return {"of": value} if value else object()

    def load(self, value: Value) -> int:
        return int(value["of"])


def test_a_type_of_ones_own_works_in_every_place() -> None:
    price = Annotated[Money, MoneyType()]
    assert stored(price, Money(1250, "EUR")) == Money(1250, "EUR")
    assert stored(dict[str, list[price | None]], {"a": [Money(5, "EUR"), None]}) == {"a": [Money(5, "EUR"), None]}
    with pytest.raises(ValidationError, match=r"made\.v\[0\]: expected MoneyType, got str"):
        stored(list[price], ["12.50 EUR"])


def test_a_type_of_ones_own_needs_no_more_than_dump_and_load() -> None:
    made = model_of(int, type=Pickier())
    with connect("memory:") as deployment, Session(deployment) as session:
        one = made(v=3)
        session.add(one)
        session.commit()
        assert Session(deployment).get_one(made, one.convex_id).v == 3
        one.v = 0
        with pytest.raises(ValidationError, match=r"made\.v: object is not a Convex value"):
            session.commit()


class Doubtful(ColumnType[str]):
    validator = String()

    def dump(self, value: str) -> Value:
        return len(value)

    def load(self, value: Value) -> str:
        raise LookupError


class Cents(IntType):
    """An amount as the number of its cents."""

    def dump(self, value: Any) -> Value:
        return super().dump(round(value * 100))

    def load(self, value: Value) -> Any:
        return super().load(value) / 100


class Below(FloatType):
    """How far a number is below zero."""

    def dump(self, value: Any) -> Value:
        return super().dump(-value)

    def load(self, value: Value) -> Any:
        return -super().load(value)


class Loud(StrType):
    """Text in capitals, which is stored in small letters."""

    def dump(self, value: Any) -> Value:
        return super().dump(value).lower()

    def load(self, value: Value) -> Any:
        return super().load(value).upper()


@pytest.mark.parametrize(("kind", "value", "held"), [(Cents(), 1.25, 125), (Below(), -1.5, 1.5), (Loud(), "A", "a")])
def test_a_type_of_ones_own_may_build_on_another(kind: ColumnType[Any], value: Any, held: Any) -> None:
    for annotation, given, dumped in (
        (Annotated[Any, kind], value, held),
        (Annotated[Any, kind] | None, value, held),
        (list[Annotated[Any, kind]], [value], [held]),
        (Annotated[dict[str, Annotated[Any, kind]], "x"], {"a": value}, {"a": held}),
    ):
        model = model_of(annotation)
        with connect("memory:") as deployment, Session(deployment) as session:
            session.add(model(v=given))
            session.commit()
            found = Session(deployment).one(model.query().where(model.v == given).full_scan())
            assert found.v == given
            assert found._state.document["v"] == dumped


def test_what_a_type_of_ones_own_builds_on_says_nothing_of_its_sums() -> None:
    model = model_of(Annotated[Any, Cents()])
    with Session(connect("memory:")) as session:
        session.add_all([model(v=1.25), model(v=2.5)])
        session.commit()
        assert session.sum(model.query().full_scan(), model.v) == 3.75
    with pytest.raises(ValidationError, match=r"^made\.v: a Cents is not computed with"):
        model.v * 2


class Halves(ColumnType[float]):
    """Numbers in halves."""

    def dump(self, value: float) -> Value:
        return round(value * 2) / 2

    def load(self, value: Value) -> float:
        return float(value)

    def adopt(self, value: Any) -> Any:
        return round(value * 2) / 2


def test_what_a_type_of_ones_own_rounds_is_shown_in_a_list_too() -> None:
    model = model_of(list[Annotated[float, Halves()]])
    with Session(connect("memory:")) as session:
        one = model(v=[0.4, 2.0])
        assert one.v == [0.5, 2.0]
        one.v.append("x")
        session.add(one)
        with pytest.raises(ValidationError, match=r"^made\.v\[2\]: expected Halves, got str"):
            session.commit()
        one.v[2] = 0.9
        session.commit()
        assert one.v == [0.5, 2.0, 1.0]


def test_what_a_type_of_ones_own_does_wrong_is_said() -> None:
    made = model_of(str, type=Doubtful())
    with pytest.raises(ValidationError, match="Doubtful dumps int where its validator is a string"):
        made.v.dump("abc")
    with pytest.raises(ValidationError, match="cannot be loaded: expected Doubtful, got str"):
        made.v.load("abc")


def test_a_dataclass_of_pydantics_is_restored_without_its_validators() -> None:
    pydantic = pytest.importorskip("pydantic")
    dataclass = importlib.import_module("pydantic.dataclasses").dataclass

    @dataclass
    class Shouted:
        text: str = pydantic.Field(alias="said")
        tags: list[str] = pydantic.Field(default_factory=list)

        @pydantic.field_validator("text")  # type: ignore[untyped-decorator]
        @classmethod
        def louder(cls, text: str) -> str:
            return text + "!"

    @dataclass(config={"extra": "allow"})
    class Open:
        text: str

    shouted = Shouted(said="a")  # type: ignore[call-arg]
    assert stored(Shouted, shouted) == shouted
    assert column_type(Shouted).load({"text": "b"}).tags == []
    with pytest.raises(ValidationError, match="Open allows extra fields"):
        model_of(Open)


def test_pydantic_is_not_imported_for_nothing() -> None:
    program = "import sys, convexorm, convexorm.testing; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- columns in conditions -----------------------------------------------------------------------------------------


def test_a_condition_of_another_model_is_refused() -> None:
    class Invoice(Model, table="invoices"):
        text: Mapped[str]
        by_text = Index("text")

    for ask in (
        lambda: Task.query().where(Invoice.text == "a"),
        lambda: Task.query().where((Task.rank == 1.0) | ~(Invoice.text == "a")),
        lambda: Task.query().where(Invoice.convex_id == "a"),
        lambda: Invoice.query().by_index("by_text", Task.text >= "a"),
    ):
        with pytest.raises(ValidationError, match=r"got a condition on table '.*' in a query of"):
            ask()


@pytest.mark.parametrize("place", [Note.meta, Note.meta["a"]], ids=["a column", "a path"])
def test_a_column_is_no_sequence_of_values(place: Any) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(place)
    with pytest.raises(TypeError):
        "a" in place  # noqa: B015


@pytest.mark.parametrize("step", [1.5, -1, True, None, (1,), b"a"], ids=repr)
def test_a_step_into_a_value_is_a_key_or_a_position(step: Any) -> None:
    for place in (Note.meta, Note.meta["a"]):
        with pytest.raises(ValidationError, match="a str or a whole number from 0"):
            place[step]


def test_operands_of_another_sort_are_refused() -> None:
    for ask in (
        lambda: Task.text.in_(None),  # type: ignore[arg-type]
        lambda: Note.meta["a"].not_in(3),  # type: ignore[arg-type]
        lambda: Task.text.startswith(None),  # type: ignore[arg-type]
        lambda: Note.meta["a"].startswith(3),  # type: ignore[arg-type]
        lambda: Task.text == 5,
        lambda: Task.due > datetime(2024, 1, 1),
        lambda: Note.meta["a"] == object(),
    ):
        with pytest.raises(ValidationError):
            ask()


def test_json_text_with_a_lone_surrogate_is_compared_as_any_other(deployment: Deployment, unique: str) -> None:
    document = {"id": unique, "title": unique, "body": "", "tags": [], "extra": '{"k":"\\ud800","l":["\\udfff"]}'}
    finish(deployment.blocking.commit(Commit(unique, [Insert(Note.__mapper__.table, document)])))
    conditions = [
        *(Note.extra["k"] > "a", Note.extra["k"] == "a", Note.extra["k"] < "\ue000", Note.extra["k"].in_(["a", "b"])),
        *(Note.extra["k"] != "a", Note.extra["l"] > ["\ud7ff"], Note.extra["l"] > ["\ue000"], Note.extra["l"] >= 1),
    ]
    with Session(deployment) as session:
        found = [session.count(Note.query().by_index("by_title", title=unique).where(one)) for one in conditions]
    assert found == [1, 0, 1, 0, 1, 1, 0, 1]


def test_a_wrong_key_says_what_is_wrong() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Note(id=5))  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match=r"notes\.id: expected str, got int"):
            session.commit()


def test_what_is_no_model_is_refused_by_name() -> None:
    class Mixin(Model):
        name: Mapped[str]

    with connect("memory:") as deployment, Session(deployment) as session:
        for wrong, words in ((int, "int has none"), (Mixin, "Mixin has none"), (Note(id="n"), "an instance of Note")):
            with pytest.raises(InvalidRequestError, match=words):
                session.get(wrong, "x")  # type: ignore[arg-type,type-var]


def test_the_time_of_creation_is_a_datetime_too(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        note = Note(id=unique)
        assert note.convex_created_at is None
        session.add(note)
        session.commit()
        assert note.creation_time is not None
        assert note.convex_created_at == column_type(datetime).load(note.creation_time)
        query = Note.query().where(Note.convex_created_at >= note.convex_created_at)
        assert unique in {one.id for one in session.all(query)}
        assert query.plan().range.index == "by_creation_time"


def test_a_record_is_an_object_of_its_fields() -> None:
    assert column_type(Point).dump(Point(1)) == {"x": 1, "y": 0}
    assert isinstance(column_type(Point).validator, Object)
    assert column_type(Point).load({"x": 1}) == Point(1)
    assert column_type(frozenset[Point]).mutable is False
    assert column_type(Part).mutable is True


def test_a_pydantic_model_is_an_object_of_its_fields() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Part(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        name: str
        at: datetime | None = None

    class Whole(Part):
        kind: Literal["whole"] = "whole"
        parts: list[Part] = pydantic.Field(default_factory=list, alias="pieces")

    class Open(Part):
        model_config = {"extra": "allow"}  # noqa: RUF012  (as pydantic has it)

    class Crossed(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        a: int = pydantic.Field(alias="b")
        b: int = pydantic.Field(alias="a")

    class Counted(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        made: int

        def model_post_init(self, context: Any) -> None:
            self.made += 1

    for odd in (Crossed(a=1, b=2), Counted(made=1)):
        assert stored(type(odd), odd) == odd

    whole = Whole(name="w", pieces=[Part(name="p", at=NOON)])
    found = stored(Whole, whole)
    assert found == whole
    assert type(found) is Whole
    with pytest.raises(ValidationError, match=r"made\.v: expected Part, got Whole"):
        stored(Part, whole)
    whole.parts.append("x")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"made\.v\.parts\[1\]: expected Part, got str"):
        stored(Whole, whole)
    with pytest.raises(ValidationError, match="Open allows extra fields"):
        model_of(Open)
