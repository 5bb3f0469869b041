"""From attributes to documents and back, by functions made for each class: its columns written out as straight code.

What a column's type says of itself (`ColumnType.quick`) stands in the text; all else is left to the column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import UNSET

from convexorm.compiling import function
from convexorm.mapping.expressions import Column
from convexorm.types import quick_adopt_of, quick_of
from convexorm.values import MISSING, Value, owned

__all__ = ["adopter", "attributes_function", "differing_function", "dump_function", "fill_function"]

Columns = Mapping[str, Column[Any]]


def dump_function(columns: Columns, *, of_rows: bool) -> Callable[[Any], dict[str, Value]]:
    """The function from an instance to the fields of its document; or from a row of attributes by name, where those left
    out take their defaults. It raises ValidationError for what cannot be stored.
    """
    known: dict[str, Any] = {"MISSING": MISSING, "owned": owned}
    body = [] if of_rows else ["attributes = given.__dict__", *_at_once(columns, known)]
    body.append("document = {}")
    for place, (name, column) in enumerate(columns.items()):
        if of_rows:
            known[f"default_{place}"] = column.default
            body.append(f"value = given[{name!r}] if {name!r} in given else default_{place}()")
        else:
            body.append(f"value = attributes[{name!r}] if {name!r} in attributes else given.{name}")
            if column.type.mutable and column.type.adopts:
                known[f"adopt_{place}"] = column.type.adopt
                body += ["if value is not None:", f"    attributes[{name!r}] = value = adopt_{place}(value)"]
        body += _stored(place, column, known)
    return function("dump", "given", [*body, "return document"], known)


def _at_once(columns: Columns, known: dict[str, Any]) -> list[str]:
    """The lines that answer the document in one expression where all values are the commonest; none, where a type has no
    such values.
    """
    values = [f"value_{place}" for place in range(len(columns))]
    always, sometimes, conditions = [], [], []
    for value, column in zip(values, columns.values(), strict=True):
        quick = quick_of(column.type)
        if quick is None or column.type.mutable:
            return []
        known.update(quick.names)
        stored, condition = quick.stored.format(value), quick.condition.format(value)
        if not column.nullable:
            always.append(f"{column.field!r}: {stored}")
        elif column.none == "null":
            always.append(f"{column.field!r}: None if {value} is None else {stored}")
        else:
            sometimes += [f"        if {value} is not None:", f"            document[{column.field!r}] = {stored}"]
        conditions.append(f"({value} is None or {condition})" if column.nullable else condition)
    if not columns:
        return []
    return [
        "try:",
        f"    {', '.join(values)}, = {', '.join(f'attributes[{name!r}]' for name in columns)},",
        "except KeyError:",
        "    pass",
        "else:",
        f"    if {' and '.join(conditions)}:",
        f"        document = {{{', '.join(always)}}}",
        *sometimes,
        "        return document",
    ]


def _stored(place: int, column: Column[Any], known: dict[str, Any]) -> Iterator[str]:
    """The lines that put `value` into the document as the column stores it."""
    known[f"dump_{place}"] = column.dump
    kept = f"document[{column.field!r}] = "
    quick = quick_of(column.type)
    if quick is not None:
        known.update(quick.names)
        yield f"if {quick.condition.format('value')}:"
        yield f"    {kept}{quick.stored.format('value')}"
        yield f"elif (value := dump_{place}(value)) is not MISSING:"
    else:
        yield f"if (value := dump_{place}(value)) is not MISSING:"
    yield f"    {kept}{'owned(value)' if column.type.mutable else 'value'}"


def adopter(column: Column[Any]) -> Callable[[Any], Any] | None:
    """What an attribute does with a value it is set to, None where that is nothing."""
    try:
        column.compile()
    except NameError:  # a later name
        return lambda value: value if value is None else column.type.adopt(value)
    if not column.type.adopts:
        return None
    adopt = column.type.adopt
    return lambda value: value if value is None else adopt(value)


def attributes_function(columns: Columns) -> Callable[[dict[str, Any]], bool]:
    """The function that makes what a constructor is given, by name, the attributes of a new instance, with the defaults of
    those left out; whether it is that, and nothing else. No default is made where it is not.
    """
    known: dict[str, Any] = {
        "names": frozenset(columns),
        "required": frozenset(name for name, column in columns.items() if not column.has_default),
    }
    filling: list[str] = []
    adopting: list[str] = []
    for place, (name, column) in enumerate(columns.items()):
        if column.has_default:
            known[f"default_{place}"] = column.default
            filling += [f"    if {name!r} not in given:", f"        given[{name!r}] = default_{place}()"]
        adopt = adopter(column)
        if adopt is not None:
            known[f"adopt_{place}"] = adopt
            quick = quick_adopt_of(column.type) if "type" in vars(column) else None
            known.update({} if quick is None else quick.names)
            others = "True" if quick is None else f"not ({quick.condition.format('value')})"
            adopting += [f"    value = given[{name!r}]", f"    if {others}:"]
            adopting += [f"        given[{name!r}] = adopt_{place}(value)"]
    body = [
        "if given.keys() != names:",
        "    if not required <= given.keys() <= names:",
        "        return False",
        *filling,
    ]
    if adopting:
        body += ["try:", *adopting, "except Exception:", "    return False"]
    return function("attributes", "given", [*body, "return True"], known)


def differing_function(
    columns: Columns, slots: Mapping[str, str] | None = None
) -> Callable[[Mapping[str, Any], Any], list[str]]:
    """The function from an instance's attributes, and the document that it was loaded from, to the names of those that may
    differ: for all others what the document holds is what they would be stored as. With the names of `slots`, by field, it
    is that of a record in the document's place.
    """
    known: dict[str, Any] = {"MISSING": MISSING if slots is None else UNSET}
    body = ["found = []"] if slots else ["found = []", "get = document.get"]
    for name, column in columns.items():
        body.append(f"if {name!r} in attributes:")
        if column.type.mutable:
            body.append(f"    found.append({name!r})")
            continue
        stored = f"get({column.field!r}, MISSING)" if slots is None else f"document.{slots[column.field]}"
        same = ["value is stored"]
        if column.nullable and column.none == "absent":
            same.append("(value is None and stored is MISSING)")
        quick = quick_of(column.type)
        if quick is not None and column.type.as_is is None:
            known.update(quick.names)
            same.append(f"({quick.condition} and {quick.stored} == stored)".format("value"))
        body += [f"    value, stored = attributes[{name!r}], {stored}", f"    if not ({' or '.join(same)}):"]
        body.append(f"        found.append({name!r})")
    return function("differing", "attributes, document", [*body, "return found"], known)


def fill_function(columns: Columns) -> Callable[[dict[str, Any], Mapping[str, Value]], None]:
    """The function that adds to an instance's attributes those that its document holds as they are."""
    known: dict[str, Any] = {}
    body = ["get = document.get"]
    for place, (name, column) in enumerate(columns.items()):
        if column.type.as_is is not None:
            known[f"kind_{place}"] = column.type.as_is
            body.append(f"if type(value := get({column.field!r})) is kind_{place}:")
            body.append(f"    attributes[{name!r}] = value")
    return function("fill", "attributes, document", body, known)
