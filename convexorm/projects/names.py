"""Names of Python for what TypeScript has named, the same in every run."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection

__all__ = ["attribute_name", "class_name", "singular", "unused"]

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+[0-9]*|[A-Z]+[0-9]*|[0-9]+")


def attribute_name(name: str, taken: Collection[str]) -> str:
    """The attribute for a field or an argument: in snake case, with a trailing underscore where it means something else."""
    snake = "_".join(word.lower() for word in _WORDS.findall(name)) if name.isascii() else name
    if not snake.isidentifier():
        snake = f"field_{snake}" if snake and f"field_{snake}".isidentifier() else "field"
    while keyword.iskeyword(snake) or snake in taken:
        snake += "_"
    return snake


def class_name(*parts: str) -> str:
    """A class's name from the names of where it stands: `("messages", "body")` is `MessagesBody`."""
    name = "".join(word[:1].upper() + word[1:].lower() for part in parts for word in _WORDS.findall(part)) or "Value"
    name = name if name[:1].isalpha() else f"Value{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def singular(name: str) -> str:
    """The name of one of what a table's name says."""
    if name.endswith("ies") and len(name) > 4:
        return f"{name[:-3]}y"
    if name.endswith(("sses", "shes", "ches", "xes", "zes")):
        return name[:-2]
    if name.endswith("s") and not name.endswith(("ss", "us", "is", "news", "series")):
        return name[:-1]
    return name


def unused(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it where it is taken."""
    number, wanted = 1, name
    while name in taken:
        number += 1
        name = f"{wanted}{number}"
    return name
