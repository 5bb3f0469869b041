"""Functions made of text: what a class or a table declares, written out once as straight code instead of decided anew for
each value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["function"]


def function(name: str, parameters: str, body: Iterable[str], known: Mapping[str, Any]) -> Callable[..., Any]:
    """The function whose body has these lines, indented as they stand there. `known` are the names that they use.

    Names and values of users are never part of the text, but as `repr` writes a str.
    """
    text = "\n".join((f"def {name}({parameters}):", *(f"    {line}" for line in body)))
    names = dict(known)
    exec(compile(text, f"<convexorm {name}>", "exec"), names)
    made: Callable[..., Any] = names[name]
    return made
