"""The kinds of columns that the law speaks of: each scalar in each container, and values to try.

A try is a value that is given and what has to be loaded for it. `STRAY` stands for a value that may be refused, and that is
loaded as it was where it is not.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import numpy as np
from hypothesis import strategies as st

from convexorm import Int64, IsoDatetime, JsonText
from convexorm.types import iso_timestamp

T = TypeVar("T")

STRAY: Final = object()
Try = tuple[Any, Any]
"""What is given, and what has to be loaded for it."""


class Color(enum.Enum):
    RED = "red"
    ONE = 1
    HALF = 0.5
    YES = True
    NOWHERE = -0.0
    NEVER = math.inf


class Word(enum.StrEnum):
    A = "a"
    B = "b"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Bits(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    made: str = dataclasses.field(init=False, default="here")


@dataclasses.dataclass
class Wide(Box[int]):
    more: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Sealed(Generic[T]):
    item: T
    flag: Final[bool] = True


@attrs.define
class Case(Generic[T]):
    _item: T
    rest: list[T] = attrs.field(factory=list)


class Row(NamedTuple, Generic[T]):
    item: T
    at: int = 3


class Entry(TypedDict, Generic[T]):
    item: T
    more: NotRequired[int]


@attrs.define
class Circle:
    kind: Literal["circle"]
    radius: float


@dataclasses.dataclass
class Square:
    kind: Literal["square"]
    side: int


Shape = Circle | Square
UserId = NewType("UserId", str)


@attrs.frozen
class Kind:
    """A scalar: its annotation, and tries of it."""

    name: str
    annotation: Any
    tries: st.SearchStrategy[Try]
    hashable: bool = True


def same(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Try]:
    return values.map(lambda value: (value, value))


def taken(values: st.SearchStrategy[Any], expected: Callable[[Any], Any]) -> st.SearchStrategy[Try]:
    """Values that stand for what a column holds, and load as that."""
    return values.map(lambda value: (value, expected(value)))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INTEGERS = st.integers(-(2**53), 2**53)
FLOATS = st.floats(allow_nan=False)
TIMES = st.datetimes(datetime(1861, 1, 1), datetime(2109, 1, 1), timezones=st.timezones() | st.just(UTC))
KEYS = st.text("abcXYZ_ 019-é$", max_size=4)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats().filter(lambda x: x - x == 0 and x % 1 != 0)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "10", "9"]), inner, max_size=3),
    max_leaves=6,
)
ANYTHING = st.recursive(JSON | st.binary(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=4)

STRAYS: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            1,
            -1,
            2**53,
            2**53 + 1,
            2**70,
            0.0,
            -0.0,
            1.5,
            math.nan,
            math.inf,
            1e300,
            "",
            "a",
            "\ud800",
        ),
        *(b"", b"x", bytearray(b"x"), [], [1], ["a"], (), (1,), {}, {"a": 1}, {1: "c", "1": "b"}, {"$": 1}, {"é": 1}),
        *(set(), {1}, frozenset(), frozenset({1}), deque([1]), range(3), {"a": 1}.keys(), {"a": 1}.values(), iter("ab")),
        *(Color.RED, Color.ONE, Color.YES, Word.A, Number.ONE, Bits.READ, Bits.READ | Bits.WRITE, Box(1), Wide(1), Row(1)),
        *(
            Sealed(1),
            Case(1),
            Circle("circle", 1.0),
            Square("square", 1),
            UUID(int=5),
            "not a uuid",
        ),
        *(datetime(2024, 1, 1), datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), date(2024, 1, 1)),
        *(time(12), time(12, tzinfo=UTC), timedelta.max, timedelta(microseconds=1), Decimal("1.10"), Decimal("NaN")),
        *(Decimal("sNaN"), Decimal("-Infinity"), Decimal("-0.00"), Path("a"), PurePosixPath("a"), object(), int, print),
        *(np.float64(1.5), np.float32(0.1), np.int64(3), np.bool_(True), np.str_("a"), np.array([1.0]), np.array([[1.0]])),
        *(np.datetime64("2024-01-01"), np.longdouble(1) / 3, complex(1), ..., NotImplemented, [math.nan], [[None]], [b"x"]),
    ]
)
"""Values of every sort, most of them wrong in most columns."""

SCALARS: list[Kind] = [
    Kind("str", str, same(TEXT) | taken(st.sampled_from([Word.A, np.str_("é")]), str)),
    Kind("NewType", UserId, same(TEXT)),
    Kind("Annotated", Annotated[int, "years"], same(INTEGERS)),
    Kind("int", int, same(INTEGERS) | taken(st.sampled_from([Number.ONE, np.int64(3), np.uint8(4)]), int)),
    Kind("float", float, same(FLOATS) | taken(INTEGERS, float) | taken(st.sampled_from([np.float32(0.1)]), float)),
    Kind("bool", bool, same(st.booleans()) | st.just((np.bool_(True), True))),
    Kind("bytes", bytes, same(st.binary(max_size=6))),
    Kind("None", type(None), st.just((None, None))),
    Kind("datetime", datetime, taken(TIMES, lambda at: at.astimezone(UTC))),
    Kind("date", date, same(st.dates())),
    Kind("time", time, same(st.times())),
    Kind("timedelta", timedelta, same(st.timedeltas(timedelta(days=-90_000), timedelta(days=90_000)))),
    Kind("Decimal", Decimal, same(st.decimals(allow_nan=False)) | taken(st.integers(), Decimal)),
    Kind("UUID", UUID, same(st.uuids()) | st.uuids().map(lambda uuid: (str(uuid).upper(), uuid))),
    Kind("Enum", Color, same(st.sampled_from(Color))),
    Kind("StrEnum", Word, same(st.sampled_from(Word))),
    Kind("IntEnum", Number, same(st.sampled_from(Number))),
    Kind("Flag", Bits, same(st.sampled_from([*Bits, Bits(0), Bits.READ | Bits.WRITE]))),
    Kind(
        "Literal",
        Literal["a", 1, True, 0.5],
        same(st.sampled_from(["a", 1, True, 0.5])) | st.sampled_from([(np.int64(1), 1), (np.bool_(True), True)]),
    ),
    Kind("Int64", Int64, same(st.integers(-(2**63), 2**63 - 1))),
    Kind(
        "IsoDatetime",
        IsoDatetime,
        taken(TIMES, lambda at: at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)),
    ),
    Kind("JsonText", JsonText, same(st.dictionaries(KEYS, JSON, max_size=3) | JSON), hashable=False),
    Kind("Any", Any, same(ANYTHING), hashable=False),
    Kind("a bare list", list, same(st.lists(ANYTHING, max_size=2)), hashable=False),
    Kind("a bare dict", dict, same(st.dictionaries(st.sampled_from(["a", "10"]), ANYTHING, max_size=2)), hashable=False),
    Kind("Path", Path, same(TEXT.filter(lambda text: "\0" not in text).map(Path))),
    Kind(
        "Shape", Shape, same(st.builds(Circle, st.just("circle"), FLOATS) | st.builds(Square, st.just("square"), INTEGERS))
    ),
    Kind("int | str", int | str, same(INTEGERS | TEXT)),
]


# -- containers ----------------------------------------------------------------------------------------------------


def both(make: Callable[[Any], Any], tries: st.SearchStrategy[Any]) -> st.SearchStrategy[Try]:
    """What holds tries: one of what is given, one of what has to be loaded."""

    def joined(inner: Any) -> Try:
        given, expected = split(inner)
        return make(given), STRAY if _holds_stray(expected) else make(expected)

    return tries.map(joined)


def split(inner: Any) -> tuple[Any, Any]:
    if isinstance(inner, tuple):
        return inner
    if isinstance(inner, list):
        return [given for given, _ in inner], [expected for _, expected in inner]
    return {key: given for key, (given, _) in inner.items()}, {key: expected for key, (_, expected) in inner.items()}


def _holds_stray(expected: Any) -> bool:
    held: Iterable[Any] = (
        expected.values() if type(expected) is dict else expected if type(expected) is list else (expected,)
    )
    return any(one is STRAY for one in held)


CONTAINERS: dict[str, Callable[[Kind], Kind]] = {
    "itself": lambda kind: kind,
    "T | None": lambda kind: Kind(kind.name, kind.annotation | None, kind.tries | st.just((None, None))),
    "list": lambda kind: Kind(
        kind.name,
        list[kind.annotation],  # type: ignore[name-defined]
        both(list, st.lists(kind.tries, max_size=3))
        | st.lists(kind.tries, max_size=3).map(
            lambda tries: (
                tuple(split(tries)[0]),
                STRAY if _holds_stray(split(tries)[1]) else split(tries)[1],
            )
        ),
        hashable=False,
    ),
    "tuple": lambda kind: Kind(
        kind.name,
        tuple[kind.annotation, int],  # type: ignore[name-defined]
        both(lambda item: (item, 7), kind.tries),
        kind.hashable,
    ),
    "tuple of any length": lambda kind: Kind(
        kind.name,
        tuple[kind.annotation, ...],  # type: ignore[name-defined]
        both(tuple, st.lists(kind.tries, max_size=3)),
        kind.hashable,
    ),
    "dict": lambda kind: Kind(
        kind.name,
        dict[str, kind.annotation],  # type: ignore[name-defined]
        both(dict, st.dictionaries(st.sampled_from(["b", "a", "10", "9", "constructor"]), kind.tries, max_size=3)),
        hashable=False,
    ),
    "a dataclass": lambda kind: Kind(kind.name, Box[kind.annotation], both(Box, kind.tries), hashable=False),  # type: ignore[name-defined]
    "a frozen dataclass": lambda kind: Kind(
        kind.name,
        Sealed[kind.annotation],  # type: ignore[name-defined]
        both(Sealed, kind.tries),
        hashable=False,
    ),
    "an attrs class": lambda kind: Kind(
        kind.name,
        Case[kind.annotation],  # type: ignore[name-defined]
        both(lambda item: Case(item, [item]), kind.tries),
        hashable=False,
    ),
    "a NamedTuple": lambda kind: Kind(kind.name, Row[kind.annotation], both(Row, kind.tries), hashable=False),  # type: ignore[name-defined]
    "a TypedDict": lambda kind: Kind(
        kind.name,
        Entry[kind.annotation],  # type: ignore[name-defined]
        both(lambda item: {"item": item}, kind.tries) | both(lambda item: {"item": item, "more": 1}, kind.tries),
        hashable=False,
    ),
}


def sets(kind: Kind) -> list[Kind]:
    """Sets of a kind whose values can be in one."""
    if not kind.hashable or kind.name in ("Shape", "None"):
        return []
    tries = st.lists(kind.tries, max_size=3)
    return [
        Kind(kind.name, set[kind.annotation], both(set, tries), hashable=False),  # type: ignore[name-defined]
        Kind(kind.name, frozenset[kind.annotation], both(frozenset, tries), hashable=False),  # type: ignore[name-defined]
    ]


def kinds_of(scalar: Kind) -> list[Kind]:
    """The scalar in every container, and in containers of containers; a stray now and then in the place of each."""
    strayed = attrs.evolve(scalar, tries=scalar.tries | STRAYS.map(lambda value: (value, STRAY)))
    once = [wrap(strayed) for name, wrap in CONTAINERS.items() if not (scalar.name == "None" and name == "T | None")]
    twice = [
        CONTAINERS[outer](CONTAINERS[inner](strayed))
        for outer, inner in (
            ("list", "T | None"),
            ("dict", "list"),
            ("a dataclass", "dict"),
            ("T | None", "a NamedTuple"),
            ("an attrs class", "a TypedDict"),
            ("tuple", "a frozen dataclass"),
        )
        if not (scalar.name == "None" and inner == "T | None")
    ]
    strays = STRAYS.map(lambda value: (value, STRAY))
    return [attrs.evolve(kind, tries=kind.tries | strays) for kind in (*once, *sets(scalar), *twice)]


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def loosely(value: Any, json: bool) -> Any:
    """A value as what stands for it, where it was taken for something else: any sequence is a list; a UUID is its text, in
    any case; in JSON, more is.
    """
    if dataclasses.is_dataclass(value) or attrs.has(type(value)):
        names = [name for base in type(value).__mro__ for name in getattr(base, "__annotations__", ())]
        return [loosely(getattr(value, name), json) for name in names]
    if isinstance(value, dict):
        return {key: loosely(one, json) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [loosely(one, json) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, UUID) or (isinstance(value, str) and _UUID.fullmatch(value)):
        return str(value).lower()
    if json and isinstance(value, enum.Enum):
        return value.value
    return iso_timestamp(value) if json and isinstance(value, datetime) else value


def alike(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, at any depth."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(item, other[key]) for key, item in one.items())
    if isinstance(one, set | frozenset):
        kinds = [sorted(str(type(item)) for item in items) for items in (one, other)]
        return one == other and kinds[0] == kinds[1]
    if dataclasses.is_dataclass(one) or attrs.has(type(one)):
        names = [name for base in type(one).__mro__ for name in getattr(base, "__annotations__", ())]
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)
