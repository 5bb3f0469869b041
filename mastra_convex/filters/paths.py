"""What a path reaches in metadata. This is the one place that follows paths, through arrays and keys with dots alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import NoneType
from typing import NamedTuple, TypeAlias

import attrs

from convexorm.values import MISSING, Missing, Value

__all__ = ["Found", "Reached", "Several", "found", "reached"]


@attrs.frozen
class Several:
    """What a path reaches through an array that is more than one value, or one where other elements have none.

    `lacking` says that an element of the array, an object, does not have what the path leads to.
    """

    values: tuple[Value, ...]
    lacking: bool = False


Reached: TypeAlias = Value | Several | Missing


def reached(metadata: Mapping[str, Value], path: tuple[str, ...]) -> Reached:
    """What `path` reaches in a row's metadata: MISSING, a value, or `Several`.

    A step into an object takes the longest part of the path that is a key of it. A step into an array is the index of an
    element if it is a whole number, else it goes on in every element that is an object.
    """
    if len(path) == 1:
        return metadata.get(path[0], MISSING)
    ends = tuple(_follow(metadata if isinstance(metadata, dict) else dict(metadata), path))
    values = tuple(end for end in ends if end is not MISSING)
    if not values:
        return MISSING
    return values[0] if len(ends) == 1 else Several(values, len(values) < len(ends))


def _follow(value: Value, path: tuple[str, ...]) -> Iterator[Reached]:
    """The values at the end of the path, and MISSING for each element of an array that has none."""
    if not path:
        yield value
    elif isinstance(value, dict):
        for end in range(len(path), 0, -1):
            key = ".".join(path[:end])
            if key in value:
                yield from _follow(value[key], path[end:])
                return
    elif isinstance(value, list) and _INDEX.fullmatch(path[0]):
        for element in value[int(path[0]) :][:1]:
            yield from _follow(element, path[1:])
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from tuple(_follow(element, path)) or (MISSING,)


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class Found(NamedTuple):
    """What conditions are asked about: the values reached themselves (`wholes`), and these with the elements of the arrays
    among them (`near`). `lacking` says that nothing was reached, or not in every element of an array.
    """

    wholes: Sequence[Value]
    near: Sequence[Value]
    lacking: bool


_NOTHING = Found((), (), True)
_SCALARS = frozenset((NoneType, bool, int, float, str))


def found(value: Reached) -> Found:
    """What a path has reached, as conditions are asked about it."""
    if value is MISSING:
        return _NOTHING
    if type(value) in _SCALARS:  # asked once a row
        one = (value,)
        return Found(one, one, False)
    if isinstance(value, Several):
        wholes, lacking = value.values, value.lacking
    else:
        wholes, lacking = (value,), False
    arrays = [whole for whole in wholes if isinstance(whole, list)]
    return Found(wholes, [*wholes, *chain.from_iterable(arrays)] if arrays else wholes, lacking)
