"""`sqlite:///path?option=value`: the URL of a file, taken apart.

In the path a `?` is `%3F`, and a `%` before two hexadecimal digits `%25`; a `#` may be `%23` or itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import attrs

from convexorm.errors import DeploymentError

__all__ = ["Location", "location_of"]

_OPTIONS: Mapping[str, tuple[str, ...]] = {"mode": ("ro",), "synchronous": ("normal", "full")}
"""The values of each option; the first of `synchronous` is what stands without it."""


@attrs.frozen
class Location:
    """A file, and how it is to be opened."""

    path: str
    read_only: bool = False
    synchronous: str = "normal"


def location_of(url: str) -> Location:
    """What a URL that begins with `sqlite:///` says. Raises DeploymentError for options that there are not."""
    path, question, query = url.partition(":///")[2].partition("?")
    if not question:
        return Location(_unquoted(path))
    right = ", ".join(f"{name}={value}" for name, values in _OPTIONS.items() for value in values)
    given: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name not in _OPTIONS:
            raise DeploymentError(f"no such option of a SQLite file; right are {right} (a ? in its path is %3F)")
        if value not in _OPTIONS[name]:
            raise DeploymentError(f"no such value of the option {name!r} of a SQLite file; right are {right}")
        if name in given:
            raise DeploymentError(f"the option {name!r} of a SQLite file is given twice")
        given[name] = value
    return Location(_unquoted(path), given.get("mode") == "ro", given.get("synchronous", "normal"))


def _unquoted(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise DeploymentError("the path of a file is text that UTF-8 can write") from None
