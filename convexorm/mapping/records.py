"""Records: documents of one model as they were read, decoded in C.

A deployment that holds documents as JSON text answers `Rows` of it. A session makes instances of the text itself: of each
model there is a type of records, a slot a column, in which msgspec puts what the document holds, text as text, numbers as
numbers, and JSON that is to be looked into later as it stands. An instance holds its record until somebody asks for the
document. Text that holds anything else than the model declares becomes no record, but a document, which says what is wrong
with it where that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw

from convexorm.compiling import function
from convexorm.mapping.conversions import differing_function
from convexorm.mapping.expressions import Column
from convexorm.schema import AnyOf, Boolean, Id, Literal, Null, Number, String, Validator
from convexorm.types import quick_load_of
from convexorm.types.scalars import IntType
from convexorm.values import MISSING, Missing, Value, loads

__all__ = ["Record", "record_type"]


class Record(msgspec.Struct, gc=False):
    """What a document holds, without its system fields. Each model's type has a slot for each of its columns."""

    places: ClassVar[Mapping[str, str]]
    """The names of the slots, by field."""
    show: ClassVar[Callable[[Any, dict[str, Any]], None]]
    """Adds to an instance's attributes what needs no conversion, or nearly none."""
    document: ClassVar[Callable[[Any], dict[str, Value]]]
    """The document, without its system fields."""
    differing: ClassVar[Callable[[Mapping[str, Any], Any], list[str]]]
    """The names of the attributes of an instance that may differ from the record."""

    def get(self, field: str, default: Missing = MISSING) -> Value | Missing:
        """What the document holds in a field."""
        value = getattr(self, self.places[field])
        return default if value is UNSET else loads(bytes(value)) if type(value) is Raw else value


def record_type(name: str, columns: Mapping[str, Column[Any]]) -> type[Record]:
    """The type of the records of a model with these columns."""
    slots: list[Any] = []
    always: list[str] = []
    sometimes: list[str] = []
    shown: list[str] = []
    known: dict[str, Any] = {"UNSET": UNSET, "loads": loads}
    for place, (attribute, column) in enumerate(columns.items()):
        slot, kind, optional = f"f{place}", _kind(column), column.property().optional
        slots.append((slot, kind, UNSET) if optional else (slot, kind))
        value = f"record.{slot}"
        stored = f"loads(bytes({value}))" if kind is Raw else value
        if optional:
            sometimes += [f"if {value} is not UNSET:", f"    document[{column.field!r}] = {stored}"]
        else:
            always.append(f"{column.field!r}: {stored}")
        as_is = column.type.as_is is not None and kind in (column.type.as_is, column.type.as_is | None)
        quick = None if as_is or kind is Raw else quick_load_of(column.type)
        if quick is not None:
            known.update({**quick.names, f"load_{place}": column.load})
            loaded = f"({quick.stored} if {quick.condition} else load_{place}({value}))".format(value)
        elif as_is:
            loaded = value
        else:
            continue
        if column.nullable and (optional or not as_is):
            loaded = f"None if {value} is UNSET or {value} is None else {loaded}"
        line = f"attributes[{attribute!r}] = {loaded}"
        lines = [f"if {value} is not UNSET:", f"    {line}"] if optional and not column.nullable else [line]
        if as_is:
            shown += lines
        else:  # each for itself: what cannot be loaded says so where it is looked at
            shown += ["try:", *(f"    {one}" for one in lines), "except ValueError:", "    pass"]
    body = [f"document = {{{', '.join(always)}}}", *sometimes, "return document"]
    places = {column.field: f"f{place}" for place, column in enumerate(columns.values())}
    made: Any = msgspec.defstruct(
        f"Record of {name}",
        slots,
        bases=(Record,),
        namespace={
            "places": places,
            "differing": staticmethod(differing_function(columns, places)),
            "show": function("show", "record, attributes", shown or ["pass"], known),
            "document": function("document", "record", body, known),
        },
        rename={f"f{place}": column.field for place, column in enumerate(columns.values())},
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return made  # type: ignore[no-any-return]


def _kind(column: Column[Any]) -> Any:
    """What msgspec is to find in a column's field: the Python type that says all of it, or JSON as it stands."""
    kind = int if type(column.type) is IntType else _plain(column.type.validator)
    return Raw if kind is None else kind | None if column.nullable else kind


def _plain(validator: Validator) -> Any:
    """The one Python type of whatever a validator accepts; None where there are several, or none that JSON has."""
    if isinstance(validator, String | Id):
        return str
    if isinstance(validator, Boolean):
        return bool
    if isinstance(validator, Number):
        return float
    if isinstance(validator, Literal) and type(validator.value) is str:
        return str
    if isinstance(validator, AnyOf):
        kinds = {_plain(one) for one in validator.members if not isinstance(one, Null)}
        return str if kinds == {str} and not any(isinstance(one, Null) for one in validator.members) else None
    return None
