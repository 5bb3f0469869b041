"""Whether a table can hold a document, by a function made for the table: it vouches for ordinary documents at once. What
it does not vouch for is looked at value by value (`Table.check`), which finds out what is wrong, if anything is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from convexorm.compiling import function
from convexorm.values import MAX_SAFE_INTEGER, MISSING, Value

if TYPE_CHECKING:
    from convexorm.schema import Property

__all__ = ["vouching"]


def vouching(
    fields: Mapping[str, Property], conditions: Mapping[type, str], largest: int
) -> Callable[[Mapping[str, Value]], bool]:
    """The function that says whether a document has these fields and no others, each plain and of its type, in at most
    `largest` characters of text.

    `conditions` are, for kinds of validators, what has to be so of `value`, in Python's words, for nothing to be wrong with
    it; `is_text(value)` and `is_number(value)` are known.
    """
    body = ["get = document.get", "size = known = 0"]
    for name, prop in fields.items():
        condition = conditions.get(type(prop.validator))
        body += [f"value = get({name!r}, MISSING)", "if value is not MISSING:"]
        if condition is None:
            body.append("    return False")
        else:
            body += [f"    if not ({condition}):", "        return False"]
            body += ["    size += len(value) if type(value) is str else 0", "    known += 1"]
        if not prop.optional:
            body += ["else:", "    return False"]
    body.append(f"return known == len(document) and size <= {largest}")
    return function("vouches", "document", body, {"MISSING": MISSING, "is_text": _is_text, "is_number": _is_number})


def _is_number(value: Value) -> bool:
    if type(value) is float:
        return value == value
    return type(value) is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
