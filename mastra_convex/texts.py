"""Lists of texts: an array of Convex as long as that holds them, JSON text beyond."""

from __future__ import annotations

import json

from convexorm.errors import ValidationError
from convexorm.schema import AnyOf, Array, String
from convexorm.types import ColumnType, json_text
from convexorm.values import MAX_ARRAY_LENGTH, Value

__all__ = ["TextsType"]


class TextsType(ColumnType[list[str]]):
    """A list of any number of texts. Text that is no JSON array of texts loads as a list of that one."""

    mutable = True
    validator = AnyOf((Array(String()), String()))

    def dump(self, value: list[str]) -> Value:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise ValidationError(f"expected a list of strings, got {type(value).__name__}")
        return list(value) if len(value) <= MAX_ARRAY_LENGTH else json_text(value)

    def load(self, value: Value) -> list[str]:
        if not isinstance(value, str):
            return list(value)
        try:
            stored = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
        return stored if isinstance(stored, list) and all(isinstance(one, str) for one in stored) else [value]
