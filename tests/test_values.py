"""Convex's values: their order, identity, size and JSON, held to vectors that the TypeScript is held to as well."""

from __future__ import annotations

import json
import math
import struct
from functools import cmp_to_key
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from convex import json_to_convex
from hypothesis import assume, given
from hypothesis import strategies as st

from convexorm import LimitExceeded, ValidationError
from convexorm.values import (
    MISSING,
    ConvexInt64,
    Value,
    canonical,
    check_value,
    digest,
    document_size,
    dumps,
    loads,
    loads_printed,
    reach,
    same,
    size_of,
)

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "canonical_vectors.json").read_text(encoding="utf-8"))


def vector_value(vector: dict[str, Any]) -> Value:
    if "value" not in vector:
        return MISSING
    return json_to_convex(json.loads(json.dumps(vector["value"]), parse_int=float))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1).map(ConvexInt64)
    | st.floats(allow_nan=False)
    | st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, 5e-324])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.binary(max_size=4)
)
NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=3).filter(lambda it: it[0] != "$")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)

KINDS: list[tuple[type, ...]] = [(type(None),), (ConvexInt64,), (float, int), (bool,), (str,), (bytes,), (list,), (dict,)]


def kind_of(value: Value) -> int:
    return next(number for number, kinds in enumerate(KINDS) if type(value) in kinds)


def order(a: Value, b: Value) -> int:
    """Convex's total order, said once more and as plainly as possible."""
    kind = kind_of(a)
    if kind != kind_of(b):
        return -1 if kind < kind_of(b) else 1
    if isinstance(a, ConvexInt64):
        return int(a.value > b.value) - int(a.value < b.value)
    if isinstance(a, float):
        mine, theirs = (a, math.copysign(1, a)), (b, math.copysign(1, b))
        return int(mine > theirs) - int(mine < theirs)
    if isinstance(a, str):
        return int(a.encode() > b.encode()) - int(a.encode() < b.encode())
    if isinstance(a, list):
        pairs = zip(a, b, strict=False)
        return next((one for one in (order(x, y) for x, y in pairs) if one), (len(a) > len(b)) - (len(a) < len(b)))
    if isinstance(a, dict):
        return order(*([part for name in sorted(each) for part in (name, each[name])] for each in (a, b)))
    return 0 if a is None else int(a > b) - int(a < b)


# -- canonical form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["canonical"])
def test_the_canonical_form_is_the_one_of_the_wire(vector: dict[str, Any]) -> None:
    assert canonical(vector_value(vector)).hex() == vector["canonical"]


def test_the_vectors_are_in_ascending_order() -> None:
    forms = [canonical(vector_value(vector)) for vector in VECTORS]
    assert all(a < b for a, b in pairwise(forms))


def test_a_digest_is_the_sha256_of_the_canonical_form() -> None:
    assert digest("a") == sha256(bytes.fromhex("106100")).hexdigest()
    assert digest(MISSING) == sha256(b"\x01").hexdigest()


@given(VALUES, VALUES)
def test_comparing_canonical_forms_compares_values(a: Value, b: Value) -> None:
    x, y = canonical(a), canonical(b)
    assert (x > y) - (x < y) == order(a, b)


@given(st.lists(VALUES, max_size=6))
def test_sorting_by_canonical_form_is_convexs_order(values: list[Value]) -> None:
    by_form = [canonical(value) for value in sorted(values, key=canonical)]
    assert by_form == [canonical(value) for value in sorted(values, key=cmp_to_key(order))]


@given(st.lists(SCALARS, min_size=2, max_size=2), st.lists(SCALARS, min_size=2, max_size=2))
def test_concatenated_forms_compare_field_by_field(a: list[Value], b: list[Value]) -> None:
    assume(order(a, b) != 0)
    assert (b"".join(map(canonical, a)) < b"".join(map(canonical, b))) == (order(a, b) < 0)


def test_nan_has_a_place_in_the_order() -> None:
    assert canonical(math.inf) < canonical(math.nan) < canonical(False)


@pytest.mark.parametrize("thing", [object(), {1, 2}, (1, 2), 1j, [object()], {"a": (1,)}])
def test_what_is_no_convex_value_has_no_canonical_form(thing: object) -> None:
    with pytest.raises(ValidationError, match="is not a Convex value"):
        canonical(thing)


@pytest.mark.parametrize("text", ["\ud800", ["\udfff"], {"\ud800": 1}], ids=["text", "element", "key"])
def test_lone_surrogates_have_no_canonical_form(text: Value) -> None:
    with pytest.raises(ValidationError, match="lone surrogate"):
        canonical(text)


# -- sameness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (0.0, -0.0, False),
        (0, -0.0, False),
        (math.nan, math.nan, True),
        (ConvexInt64(1), 1, False),
        (ConvexInt64(1), ConvexInt64(1), True),
        ("a", b"a", False),
        (None, MISSING, False),
        (MISSING, MISSING, True),
        ([1, 2], [1.0, 2.0], True),
        ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ([], {}, False),
    ],
)
def test_sameness_follows_convex_and_not_python(a: Value, b: Value, expected: bool) -> None:
    assert same(a, b) is expected
    assert same(b, a) is expected


@given(VALUES, VALUES)
def test_values_are_the_same_when_their_canonical_forms_are(a: Value, b: Value) -> None:
    assert same(a, b) == (canonical(a) == canonical(b))
    assert same(a, a)


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 1),
        (True, 1),
        (1, 9),
        (1.5, 9),
        (ConvexInt64(1), 9),
        ("", 2),
        ("abc", 5),
        ("é", 4),
        ("😀", 6),
        ("\udc00", 5),
        (b"abc", 5),
        ([], 2),
        ([1, 2], 20),
        ({}, 2),
        ({"a": None}, 5),
        ({"ab": "x", "c": [True]}, 2 + 3 + 3 + 2 + 3),
    ],
)
def test_sizes_are_those_convex_counts(value: Value, size: int) -> None:
    assert size_of(value) == size


def test_a_document_weighs_its_system_fields_too() -> None:
    stored = {"a": 1.0, "_id": "x" * 32, "_creationTime": 1.0}
    assert document_size({"a": 1.0}) == size_of(stored)


# -- JSON ----------------------------------------------------------------------------------------------------------


@given(VALUES)
def test_json_gives_every_value_back(value: Value) -> None:
    assert same(loads(dumps(value)), value)
    assert same(loads(dumps(value).encode()), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ConvexInt64(1), '{"$integer":"AQAAAAAAAAA="}'),
        (b"\x00", '{"$bytes":"AA=="}'),
        (math.inf, '{"$float":"AAAAAAAA8H8="}'),
        (math.nan, '{"$float":"AAAAAAAA+H8="}'),
        ({"a": [1, "é", None, True]}, '{"a":[1,"é",null,true]}'),
    ],
)
def test_json_is_convexs_own(value: Value, text: str) -> None:
    assert dumps(value) == text
    assert same(loads(text), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1152921504606847000", 2.0**60),
        ("-9007199254740994", -9007199254740994.0),
        ("[9007199254740992,7,-1]", [2.0**53, 7.0, -1.0]),
        ('{"$integer":"AQAAAAAAAAA="}', ConvexInt64(1)),
    ],
)
def test_a_number_that_javascript_prints_as_digits_is_the_float_it_was(text: str, value: Value) -> None:
    assert canonical(loads_printed(text)) == canonical(value)
    assert same(loads_printed(text.encode()), value)


def test_negative_zero_survives_json() -> None:
    assert struct.pack(">d", loads(dumps(-0.0))) == struct.pack(">d", -0.0)
    assert struct.pack(">d", loads(dumps([-0.0, math.inf]))[0]) == struct.pack(">d", -0.0)


# -- what a value may be -------------------------------------------------------------------------------------------


def nested(levels: int) -> Value:
    value: Value = 1
    for _ in range(levels):
        value = [value]
    return value


@given(VALUES)
def test_every_convex_value_is_accepted(value: Value) -> None:
    check_value(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "NaN"),
        ([math.nan], "NaN"),
        (2**53 + 1, "2\\*\\*53"),
        (-(2**53) - 1, "2\\*\\*53"),
        ("\ud800", "lone surrogate"),
        ({"": 1}, "not empty"),
        ({"$a": 1}, "do not start with"),
        ({"é": 1}, "printable ASCII"),
        ({"a\n": 1}, "printable ASCII"),
        ({"x" * 1_025: 1}, "1,024"),
        ({1: 1}, "keys are strings"),
        ([{"__proto__": {}}], "__proto__"),
        (nested(17), "16 levels"),
        ((1, 2), "not a Convex value"),
        (MISSING, "not a Convex value"),
    ],
)
def test_what_convex_cannot_hold_is_refused(value: Value, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        check_value(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), nested(16), [0] * 8_192, {f"f{n}": 0 for n in range(1_024)}])
def test_values_at_their_limits_are_accepted(value: Value) -> None:
    check_value(value)


@pytest.mark.parametrize(
    ("value", "maximum"), [([0] * 8_193, 8_192), ({f"f{n}": 0 for n in range(1_025)}, 1_024)], ids=["array", "object"]
)
def test_values_beyond_a_limit_are_refused_with_its_number(value: Value, maximum: int) -> None:
    with pytest.raises(LimitExceeded) as refused:
        check_value(value)
    assert (refused.value.maximum, refused.value.actual) == (maximum, maximum + 1)


def test_dotted_paths_reach_into_objects_only() -> None:
    document = {"a": {"b": {"c": 1}}, "l": [1], "n": None}
    found = [reach(document, path) for path in ("a.b.c", "a.x", "l.0", "n.x", "n")]
    assert found == [1, MISSING, MISSING, MISSING, None]
