"""Whether a table can hold a document, by a function made for the table: it vouches for ordinary documents at once. What
it does not vouch for is looked at value by value (`Table.check`), which finds out what is wrong, if anything is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from convexorm.compiling import function
from convexorm.schema.validators import Property
from convexorm.values import Value

__all__ = ["vouching"]


def vouching(
    fields: Mapping[str, Property], conditions: Mapping[type, str], largest: int
) -> Callable[[Mapping[str, Value]], bool]:
    """The function that says whether a document has these fields and no others, each plain and of its type, in at most
    `largest` characters of text.

    `conditions` are, for kinds of validators, what has to be so of `value`, in Python's words, for nothing to be wrong with
    it; `is_text(value)` is known.
    """
    body = [f"size, known = 0, {sum(not prop.optional for prop in fields.values())}"]
    for name, prop in fields.items():
        condition = conditions.get(type(prop.validator))
        refused = "return False" if condition is None else f"if not ({condition}): return False"
        measured = "size += len(value)" if "is str" in (condition or "") else "pass"
        lines = [f"value = document[{name!r}]", refused, measured]
        body += (
            [f"if {name!r} in document:", *(f"    {line}" for line in (*lines, "known += 1"))] if prop.optional else lines
        )
    body = ["try:", *(f"    {line}" for line in body), "except KeyError:", "    return False"]
    body.append(f"return known == len(document) and size <= {largest}")
    return function("vouches", "document", body, {"is_text": _is_text})


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
