"""Every kind of column, from Python to Convex and back, and what each refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convexorm import Int64, IsoDatetime, JsonText, ValidationError
from convexorm.types import JSON_MARK, ColumnType, JsonTextType, JsonType, MarkedJsonType, column_type, iso_timestamp
from convexorm.values import ConvexInt64, Value, loads_printed, same
from tests.models import Address, Color, Everything

NOON = datetime(2024, 5, 17, 12, 0, 0, 123_456, tzinfo=UTC)
NOON_MS = 1_715_947_200_123.456
UUID_TEXT = "12345678-1234-5678-1234-567812345678"


def everything(**changes: Any) -> Everything:
    """An entity with a value in every column."""
    values: dict[str, Any] = {
        "key": "k",
        "text": "ä\0😀",
        "number": -0.5,
        "whole": 2**53,
        "big": -(2**63),
        "flag": True,
        "raw": b"\x00\xff",
        "at": NOON,
        "iso": NOON.replace(microsecond=123_000),
        "color": Color.GREEN,
        "size": 3,
        "uuid": UUID(UUID_TEXT),
        "numbers": [1.0, -0.0, math.inf],
        "labels": {"b", "a", "c"},
        "pair": ("x", 1),
        "counts": {"a": 1},
        "address": Address("Main St", NOON, None),
        "anything": {"a": [1, None, b"x"], "b": 1.5},
        "document": {"topic": "x", "nested": {"n": [1, 2]}},
        "text_json": {"ключ": [1, {"$weird": None}]},
    }
    return Everything(**{**values, **changes})


class Kind(str, Enum):  # noqa: UP042  (as applications written for Python 3.10 have it)
    A = "a"


class Word(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Bits(IntFlag):
    ONE = 1
    TWO = 2


@attrs.define
class Pair:
    kind: Kind
    number: Number


ROUND_TRIPS: list[tuple[Any, Any, Value]] = [
    (str, "é", "é"),
    (bool, True, True),
    (bytes, b"\x00", b"\x00"),
    (float, 1.5, 1.5),
    (int, 7, 7.0),
    (Int64, 2**63 - 1, ConvexInt64(2**63 - 1)),
    (datetime, NOON, NOON_MS),
    (IsoDatetime, datetime(2024, 5, 17, 12, tzinfo=UTC), "2024-05-17T12:00:00.000Z"),
    (Color, Color.RED, "red"),
    (Literal["a", 1], "a", "a"),
    (Literal["a", 1], 1, 1.0),
    (list[Literal[True, 1]], [1, True], [1.0, True]),
    (UUID, UUID(UUID_TEXT), UUID_TEXT),
    (list[float], [1.0, 2.0], [1.0, 2.0]),
    (list[Color], [Color.RED], ["red"]),
    (Kind, Kind.A, "a"),
    (Word, Word.A, "a"),
    (Number, Number.ONE, 1),
    (Bits, Bits.TWO, 2),
    (list[Word], [Word.A], ["a"]),
    (dict[str, Number], {"x": Number.ONE}, {"x": 1}),
    (Pair, Pair(Kind.A, Number.ONE), {"kind": "a", "number": 1}),
    (set[str], {"b", "a"}, ["a", "b"]),
    (frozenset[int], frozenset({2, 1}), [1, 2]),
    (tuple[str, int], ("a", 1), ["a", 1]),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (list[Any], [1, [None]], [1, [None]]),
    (dict[str, Any], {"a": {"b": 1}}, {"a": {"b": 1}}),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (Address, Address("s", NOON, 2), {"street": "s", "since": NOON_MS, "flat": 2}),
    (list[Address], [Address("s", NOON)], [{"street": "s", "since": NOON_MS, "flat": None}]),
    (JsonText, {"$a": [1]}, '{"$a":[1]}'),
    (Annotated[dict[str, Any], JsonType()], {"a": 1}, {"a": 1}),
    (Annotated[dict[str, Any], JsonType()], {"é": 1}, '{"é":1}'),
]


def readable(parameter: object) -> str:
    """A parameter as a test id, the same in every process: the order of a set is not."""
    ordered = sorted(parameter) if isinstance(parameter, set | frozenset) else parameter
    return str(ordered)[:40]


@pytest.mark.parametrize(("annotation", "value", "stored"), ROUND_TRIPS, ids=readable)
def test_a_value_is_stored_in_its_convex_form_and_loaded_back(annotation: Any, value: Any, stored: Value) -> None:
    type_: ColumnType[Any] = column_type(annotation)
    dumped = type_.dump(value)
    assert same(dumped, stored)
    assert type_.validator.accepts(dumped)
    loaded = type_.load(stored)
    assert loaded == value
    assert type(loaded) is type(value)
    assert readable(loaded) == readable(value)  # a member of a str enum equals its text


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2109, 1, 1), timezones=st.timezones()))
def test_a_datetime_keeps_its_instant_to_the_microsecond(at: datetime) -> None:
    type_: ColumnType[datetime] = column_type(datetime)
    loaded = type_.load(type_.dump(at))
    assert loaded == at.astimezone(UTC)
    assert loaded.tzinfo is UTC


@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)))
def test_iso_text_is_javascripts_and_sorts_by_time(at: datetime) -> None:
    text = iso_timestamp(at)
    assert len(text) == 24
    assert text.endswith("Z")
    later = min(at, datetime(9999, 12, 31, tzinfo=UTC)) + timedelta(milliseconds=1)
    assert (iso_timestamp(later) > text) == (later > at)
    assert column_type(IsoDatetime).load(text) == at.replace(microsecond=at.microsecond // 1_000 * 1_000)


@given(st.datetimes(timezones=st.sampled_from((UTC, timezone(timedelta(hours=-3, minutes=30))))))
def test_an_iso_text_is_pythons_with_three_decimals(at: datetime) -> None:
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        return
    assert iso_timestamp(at) == utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-17T14:00:00.000+02:00", datetime(2024, 5, 17, 12, tzinfo=UTC)),
        ("2024-05-17T12:00:00Z", datetime(2024, 5, 17, 12, tzinfo=UTC)),
        ("2024-05-17T12:00:00", datetime(2024, 5, 17, 12, tzinfo=UTC)),
        (1_715_947_200_000.0, datetime(2024, 5, 17, 12, tzinfo=UTC)),
    ],
)
def test_iso_columns_read_what_others_wrote(text: Value, expected: datetime) -> None:
    assert column_type(IsoDatetime).load(text) == expected


def test_iso_text_is_utc_whatever_the_zone() -> None:
    assert iso_timestamp(datetime(2024, 5, 17, 12, tzinfo=timezone(timedelta(hours=2)))) == "2024-05-17T10:00:00.000Z"


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (datetime, datetime(2024, 1, 1), "naive"),
        (IsoDatetime, datetime(2024, 1, 1), "naive"),
        (datetime, date(2024, 1, 1), "expected datetime"),
        (datetime, datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "years 1 to 9999"),
        (IsoDatetime, datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "years 1 to 9999"),
        (datetime, "2024", "expected datetime"),
        (int, 1.0, "expected int"),
        (int, True, "expected int"),
        (int, "1", "expected int"),
        (Int64, 2**63, "64 bits"),
        (Int64, -(2**63) - 1, "64 bits"),
        (Int64, True, "expected int"),
        (JsonText, {"a": math.nan}, "not JSON"),
        (JsonText, {"a": object()}, "JSON"),
        (JsonText, datetime(2024, 1, 1), "naive"),
        (list[int], ["a"], "expected int"),
        (Address, "nowhere", "Address"),
        (Color, "red", "Color"),
    ],
)
def test_what_a_column_cannot_store_is_refused(annotation: Any, value: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        column_type(annotation).dump(value)


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (int, 1.5),
        (int, math.inf),
        (int, "1"),
        (float, None),
        (datetime, 1e300),
        (Color, "blue"),
        (UUID, "x"),
        (Address, {}),
        (list[int], 3.0),
    ],
)
def test_what_cannot_be_loaded_is_a_validation_error(annotation: Any, stored: Value) -> None:
    from convexorm.mapping.expressions import Column

    column: Column[Any] = Column(
        table="t", name="a", field="a", none="absent", compile=lambda: (column_type(annotation), False)
    )
    with pytest.raises(ValidationError) as refused:
        column.load(stored)
    assert (refused.value.table, refused.value.field) == ("t", "a")


@pytest.mark.parametrize("value", [np.float64(1.5), np.float32(1.5), np.int64(2), np.uint8(3)])
def test_numpy_numbers_are_numbers(value: Any) -> None:
    dumped = column_type(float).dump(value)
    assert dumped == value
    assert type(dumped) in (int, float)
    assert type(column_type(Any).dump([value])[0]) in (int, float)


def test_integers_in_any_columns_come_back_as_integers() -> None:
    loaded = column_type(Any).load({"a": [1.0, 1.5, -0.0, 1e300]})
    assert [type(number) for number in loaded["a"]] == [int, float, float, float]
    loaded = column_type(Any).load(loads_printed("[123456789012345680000, -9007199254740994, 9007199254740992]"))
    assert repr(loaded) == "[1.2345678901234568e+20, -9007199254740994.0, 9007199254740992]"


@pytest.mark.parametrize("annotation", [JsonText, Annotated[Any, JsonType()]])
def test_enums_within_json_are_their_values(annotation: Any) -> None:
    type_ = column_type(annotation)
    stored = type_.dump({"color": Color.RED, "kinds": [Kind.A, Word.A], "number": Number.ONE})
    assert type_.load(stored) == {"color": "red", "kinds": ["a", "a"], "number": 1}
    assert "Kind" not in repr(stored)


def test_loading_never_hands_out_the_documents_own_object() -> None:
    stored: dict[str, Any] = {"a": [1.0]}
    loaded = column_type(Any).load(stored)
    loaded["a"].append(2)
    assert stored == {"a": [1.0]}


HARD_JSON: list[Callable[[], Any]] = [
    lambda: {"": 1},
    lambda: {"$a": 1},
    lambda: {"é": 1},
    lambda: {"n": 2**60},
    lambda: {"a": [{"__proto__": {"b": 1}}]},
    lambda: {"deep": _deep(20)},
    lambda: {"long": [0] * 8_193},
]


def _deep(levels: int) -> Any:
    return [] if levels == 0 else [_deep(levels - 1)]


@pytest.mark.parametrize("make", HARD_JSON)
def test_json_that_convex_cannot_hold_is_stored_as_text(make: Callable[[], Any]) -> None:
    dumped = JsonType().dump(make())
    assert isinstance(dumped, str)
    assert JsonType().load(dumped) == make()


@pytest.mark.parametrize("codec", [JsonTextType(), JsonType(), MarkedJsonType()])
def test_json_is_not_taken_for_text_where_the_stack_is_deeper(codec: ColumnType[Any]) -> None:
    def at(depth: int, ask: Callable[[], Any]) -> Any:
        return ask() if depth == 0 else at(depth - 1, ask)

    value: Any = {'"]"\\': 1}
    for _ in range(250):
        value = {"a": [value]}
    stored = (JSON_MARK if isinstance(codec, MarkedJsonType) else "") + json.dumps(value)
    here = codec.load(stored)
    for _ in range(250):
        here = here["a"][0]
    assert here == {'"]"\\': 1}
    if sys.version_info >= (3, 12):  # where code in C has a depth of its own
        assert at(sys.getrecursionlimit() // 2, lambda: codec.load(stored)) == codec.load(stored)
    else:
        with pytest.raises(ValidationError, match="nested too deeply to be loaded"):
            at(sys.getrecursionlimit() // 2, lambda: codec.load(stored))
    assert JsonType().load("[" * 100_000) == "[" * 100_000


def test_json_columns_read_both_forms() -> None:
    assert JsonType().load({"a": 1.0}) == {"a": 1}
    assert JsonType().load('{"a":1}') == {"a": 1}
    assert JsonType().load("just text") == "just text"


def test_datetimes_inside_json_become_javascripts_iso_text() -> None:
    assert JsonType().dump({"at": NOON}) == {"at": "2024-05-17T12:00:00.123Z"}
    assert column_type(JsonText).dump([NOON]) == '["2024-05-17T12:00:00.123Z"]'


def test_the_same_set_is_the_same_array_in_every_process() -> None:
    program = "from convexorm.types import column_type; print(column_type(set[str]).dump({'b', 'a', 'c', 'dd', 'é'}))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert outputs == {"['a', 'b', 'c', 'dd', 'é']\n"}


@pytest.mark.parametrize(
    "annotation", [object(), complex, dict[int, str], Callable[[], None], int | float, list[Decimal | str]]
)
def test_an_annotation_without_a_convex_form_is_refused(annotation: Any) -> None:
    with pytest.raises(ValidationError, match="no Convex type"):
        column_type(annotation)
