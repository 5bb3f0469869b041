"""Data that is easily bent on its way, and a comparison that sees it."""

from __future__ import annotations

from typing import Any

__all__ = ["ANY_KEYS", "DEEP", "LARGE", "PLAIN", "exactly"]

DEEP: Any = "bottom"
for _level in range(40):
    DEEP = {f"level {_level}": DEEP} if _level % 3 else [DEEP]
"""40 levels of objects and lists."""

PLAIN: dict[str, Any] = {
    "zero": 0,
    "false": False,
    "empty": "",
    "null": None,
    "nothing": {},
    "none": [],
    "list": [0, False, "", None, [], {}],
    "fraction": 0.1,
    "tiny": 5e-324,
    "large": 2**53 - 1,
    "negative": -1.5,
    "date": "2026-01-02T03:04:05.006Z",
    "json": '{"a": 1}',
    "word": "null",
    "text": 'quote " backslash \\ newline \n tab \t zero \x00 日本語 😀 \u2028',
}
"""Values that Convex holds as they are."""

ANY_KEYS: dict[str, Any] = {
    **PLAIN,
    "$schema": {"$ref": "#", "_id": 1, "": "nameless"},
    "日本語": {"キー with spaces": [{"é": None}]},
    "deep": DEEP,
}
"""With keys that Convex reserves or does not know, and 40 levels: all of JSON."""

LARGE = "0123456789日本語☃é" * 40_000
"""A text of 960,000 bytes in UTF-8."""


def exactly(value: Any) -> Any:
    """A value as JSON tells values apart: 0 is 0.0, but neither is False."""
    if isinstance(value, dict):
        return {key: exactly(one) for key, one in value.items()}
    if isinstance(value, list):
        return [exactly(one) for one in value]
    return (type(value), value) if isinstance(value, bool) else value
