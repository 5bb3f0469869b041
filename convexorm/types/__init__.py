"""How Python values become Convex values and back: a column type for each annotation, compiled when a class is declared.

A family a module: `scalars`, `times`, `texts`, `choices`, `anything` (without a type, and JSON), `containers`, `records`
(classes with named fields), `unions`. `codec` says what a column type is, `annotations` finds the one for an annotation,
`names` knows what the names in it mean. A type of one's own is a subclass of `ColumnType`, given to a column with
`field(type=...)`, or to any place of an annotation with `Annotated[T, a_column_type]`.
"""

from convexorm.types.annotations import Int64, IsoDatetime, JsonText, column_type, compiled, result_type
from convexorm.types.anything import JSON_MARK, AnyType, JsonTextType, JsonType, MarkedJsonType, json_text, json_value
from convexorm.types.codec import ColumnType, dumper, loader, quick_adopt_of, quick_load_of, quick_of
from convexorm.types.names import Names, annotations_of, bindings
from convexorm.types.scalars import FloatType, StrType
from convexorm.types.times import IsoDatetimeType, TimestampType, iso_timestamp

__all__ = [
    "JSON_MARK",
    "AnyType",
    "ColumnType",
    "FloatType",
    "Int64",
    "IsoDatetime",
    "IsoDatetimeType",
    "JsonText",
    "JsonTextType",
    "JsonType",
    "MarkedJsonType",
    "Names",
    "StrType",
    "TimestampType",
    "annotations_of",
    "bindings",
    "column_type",
    "compiled",
    "dumper",
    "iso_timestamp",
    "json_text",
    "json_value",
    "loader",
    "quick_adopt_of",
    "quick_load_of",
    "quick_of",
    "result_type",
]
