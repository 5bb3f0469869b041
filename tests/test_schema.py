"""Tables as data: what they accept, their TypeScript, and how two schemas are told apart."""

from __future__ import annotations

import math
from typing import Any

import pytest

from convexorm import IndexRangeError, LimitExceeded, Schema, ValidationError, to_typescript
from convexorm.schema import (
    LEDGER,
    AnyOf,
    AnyValue,
    Array,
    Boolean,
    Bytes,
    Id,
    IndexDef,
    Int64,
    Literal,
    Null,
    Number,
    Object,
    Property,
    Record,
    String,
    Table,
    Validator,
    VectorIndexDef,
)
from convexorm.values import MAX_DOCUMENT_SIZE, ConvexInt64, Value, document_size
from tests.test_values import nested

VALIDATORS: list[tuple[Validator, list[Value], list[Value], str]] = [
    (Null(), [None], [0, ""], "v.null()"),
    (Boolean(), [True], [1, None], "v.boolean()"),
    (Number(), [1, 1.5], [True, ConvexInt64(1), "1"], "v.number()"),
    (Int64(), [ConvexInt64(1)], [1, 1.0], "v.int64()"),
    (String(), [""], [b"", None], "v.string()"),
    (Bytes(), [b""], ["", [1]], "v.bytes()"),
    (AnyValue(), [None, [1], {"a": 1}], [], "v.any()"),
    (Literal("a"), ["a"], ["b", None], 'v.literal("a")'),
    (Literal(1), [1, 1.0], [True, 2], "v.literal(1)"),
    (Literal(True), [True], [1, False], "v.literal(true)"),
    (Id("tasks"), ["x"], [1], 'v.id("tasks")'),
    (Array(String()), [[], ["a"]], [["a", 1], ("a",), "a"], "v.array(v.string())"),
    (Record(Number()), [{}, {"a": 1}], [{"a": "x"}, []], "v.record(v.string(), v.number())"),
    (
        Object({"a": Property(String()), "b": Property(Number(), optional=True)}),
        [{"a": "x"}, {"a": "x", "b": 1}],
        [{}, {"a": 1}, {"a": "x", "c": 1}, {"a": "x", "b": None}],
        'v.object({ "a": v.string(), "b": v.optional(v.number()) })',
    ),
    (AnyOf((String(), Null())), ["a", None], [1], "v.union(v.string(), v.null())"),
]


@pytest.mark.parametrize(("validator", "good", "bad", "typescript"), VALIDATORS, ids=lambda it: type(it).__name__)
def test_a_validator_accepts_its_type_and_nothing_else(
    validator: Validator, good: list[Value], bad: list[Value], typescript: str
) -> None:
    assert all(map(validator.accepts, good))
    assert not any(map(validator.accepts, bad))
    assert validator.typescript() == typescript


def test_unions_are_flat_and_without_repetition() -> None:
    assert AnyOf.of(String(), AnyOf((Null(), String()))) == AnyOf((String(), Null()))
    assert AnyOf.of(String(), String()) == String()
    assert AnyOf.of(String(), AnyValue()) == AnyValue()
    assert AnyOf.of(Literal(True), Literal(1)) == AnyOf((Literal(True), Literal(1)))


TABLE = Table(
    "things",
    {
        "name": Property(String()),
        "any": Property(AnyValue(), optional=True),
        "number": Property(Number(), optional=True),
        "raw": Property(Bytes(), optional=True),
    },
    (IndexDef("by_name", ("name",)), IndexDef("by_inner", ("any.inner", "number"))),
)


def test_index_keys_end_with_the_creation_time() -> None:
    assert TABLE.key_fields("by_inner") == ("any.inner", "number", "_creationTime")
    assert TABLE.key_fields("by_creation_time") == ("_creationTime",)
    assert TABLE.key_fields("by_id") == ("_id",)


def test_an_unknown_index_is_refused_with_those_there_are() -> None:
    with pytest.raises(IndexRangeError, match="by_creation_time, by_id, by_inner, by_name") as refused:
        TABLE.key_fields("by_nothing")
    assert (refused.value.table, refused.value.index) == ("things", "by_nothing")


REFUSED: dict[str, tuple[dict[Any, Any], str | None, str]] = {
    "an unknown field": ({"name": "x", "other": 1}, "other", "the fields are name, any"),
    "a wrong type": ({"name": 1}, "name", "expected a string, got int"),
    "null where it is not declared": ({"name": "x", "number": None}, "number", "expected a number, got null"),
    "a missing field": ({}, "name", "required, and missing"),
    "NaN": ({"name": "x", "number": math.nan}, "number", "NaN"),
    "NaN inside": ({"name": "x", "any": [math.nan]}, "any", "NaN"),
    "an integer past 2**53": ({"name": "x", "number": 2**53 + 1}, "number", "2\\*\\*53"),
    "a lone surrogate": ({"name": "\udfff"}, "name", "lone surrogate"),
    "a key that is not ASCII": ({"name": "x", "any": {"é": 1}}, "any", "printable ASCII"),
    "a key that starts with $": ({"name": "x", "any": {"$a": 1}}, "any", "do not start with"),
    "17 levels": ({"name": "x", "any": nested(16)}, "any", "16 levels"),
    "no Convex value": ({"name": "x", "any": {1, 2}}, "any", "not a Convex value"),
    "a field of the system": ({"name": "x", "_id": "y"}, "_id", "no such field"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_the_table_cannot_hold_is_refused_with_its_field(name: str) -> None:
    document, bad, words = REFUSED[name]
    with pytest.raises(ValidationError, match=words) as refused:
        TABLE.check(document)
    assert (refused.value.table, refused.value.field) == ("things", bad)


@pytest.mark.parametrize(
    ("document", "maximum"),
    [
        ({"name": "x", "any": [0] * 8_193}, 8_192),
        ({"name": "x", "any": {f"f{n}": 0 for n in range(1_025)}}, 1_024),
        ({"name": "x" * MAX_DOCUMENT_SIZE}, MAX_DOCUMENT_SIZE),
        ({"name": "é" * (MAX_DOCUMENT_SIZE // 2)}, MAX_DOCUMENT_SIZE),
        ({"name": "x", "raw": b"x" * MAX_DOCUMENT_SIZE}, MAX_DOCUMENT_SIZE),
        ({"name": "x", "any": ["x" * 1_000] * 1_100}, MAX_DOCUMENT_SIZE),
    ],
    ids=["elements", "fields", "text", "multibyte", "bytes", "nested"],
)
def test_a_document_over_a_limit_of_convex_is_refused(document: dict[str, Value], maximum: int) -> None:
    with pytest.raises(LimitExceeded) as refused:
        TABLE.check(document)
    assert refused.value.maximum == maximum
    assert refused.value.table == "things"


def test_a_document_of_exactly_one_mebibyte_is_accepted() -> None:
    room = MAX_DOCUMENT_SIZE - document_size({"name": ""})
    TABLE.check({"name": "x" * room})
    with pytest.raises(LimitExceeded):
        TABLE.check({"name": "x" * (room + 1)})


def test_sixteen_levels_of_nesting_are_accepted() -> None:
    TABLE.check({"name": "x", "any": nested(15)})


def test_a_required_field_cannot_be_removed() -> None:
    TABLE.check_unset("number")
    with pytest.raises(ValidationError, match="cannot be removed"):
        TABLE.check_unset("name")


# -- schemas -------------------------------------------------------------------------------------------------------


def test_typescript_declares_fields_indexes_and_the_ledger() -> None:
    table = Table(
        "docs",
        {"text": Property(String()), "vector": Property(Array(Number()), optional=True)},
        (IndexDef("by_text", ("text",)),),
        (VectorIndexDef("by_vector", "vector", 3, ("text",)),),
    )
    text = to_typescript(Schema.of([table]))
    assert text.endswith(
        "export default defineSchema({\n"
        "  docs: defineTable({\n"
        "    text: v.string(),\n"
        "    vector: v.optional(v.array(v.number())),\n"
        "  })\n"
        '    .index("by_text", ["text"])\n'
        '    .vectorIndex("by_vector", { vectorField: "vector", dimensions: 3, filterFields: ["text"] }),\n'
        "  convexorm_commits: defineTable({\n"
        "    commitId: v.string(),\n"
        "    answer: v.string(),\n"
        "  })\n"
        '    .index("by_commit", ["commitId"]),\n'
        "});\n"
    )


def test_the_ledger_is_declared_once() -> None:
    assert to_typescript(Schema.of([LEDGER])).count("convexorm_commits:") == 1


def test_one_name_for_two_different_tables_is_refused() -> None:
    Schema.of([TABLE, TABLE])
    with pytest.raises(ValidationError, match="declared twice"):
        Schema.of([TABLE, Table("things", {"other": Property(String())})])


def test_a_table_can_be_renamed() -> None:
    renamed = TABLE.renamed("stuff")
    assert (renamed.name, renamed.indexes) == ("stuff", TABLE.indexes)
    with pytest.raises(ValidationError) as refused:
        renamed.check({})
    assert refused.value.table == "stuff"
