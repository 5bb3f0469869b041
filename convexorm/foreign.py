"""Classes of packages that take long to import: numpy's array and the int64 of Convex's own client.

A value can only be of such a class if its package has been imported, by whoever made the value. So to ask whether it is
one imports nothing.
"""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

__all__ = ["is_array", "is_int64", "is_int64_class"]


def is_array(value: object) -> TypeGuard[Any]:
    """Whether it is an array of numpy, of whatever shape."""
    kind = type(value)
    return kind.__name__ == "ndarray" and kind is _class("numpy", "ndarray")


def is_int64(value: object) -> TypeGuard[Any]:
    """Whether it is a `ConvexInt64`."""
    return is_int64_class(type(value))


def is_int64_class(kind: Any) -> bool:
    """Whether a class is `ConvexInt64`."""
    return getattr(kind, "__name__", "") == "ConvexInt64" and kind is _class("convex", "ConvexInt64")


def _class(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)
