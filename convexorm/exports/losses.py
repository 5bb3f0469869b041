"""What TypeScript says of values and validators here do not: the one value of a bigint, and which keys a record has."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

__all__ = ["losses_of"]

_NAMES = {"bigint": "int64"}


def losses_of(documents: Any) -> Mapping[str, str]:
    """For each field of a table that says more than its validator here, what it says in TypeScript.

    `documents` are as `schema.export()` has them, and were understood.
    """
    shapes = documents["value"] if documents["type"] == "union" else [documents]
    lost: dict[str, list[str]] = {}
    for shape in shapes:
        for name, told in shape["value"].items() if shape["type"] == "object" else ():
            if _loses(told["fieldType"]):
                lost.setdefault(name, []).append(_field(told))
    return {name: " or ".join(dict.fromkeys(said)) for name, said in lost.items()}


def _loses(told: Any) -> bool:
    match told["type"]:
        case "literal":
            return isinstance(told["value"], dict)
        case "record":
            return told["keys"]["type"] != "string" or _loses(told["values"]["fieldType"])
        case "array":
            return _loses(told["value"])
        case "object":
            return any(_loses(each["fieldType"]) for each in told["value"].values())
        case "union":
            return any(map(_loses, told["value"]))
    return False


def _field(told: Any) -> str:
    inner = _typescript(told["fieldType"])
    return f"v.optional({inner})" if told.get("optional") is True else inner


def _typescript(told: Any) -> str:
    match kind := told["type"]:
        case "id":
            return f"v.id({json.dumps(told['tableName'])})"
        case "literal":
            return f"v.literal({_literal(told['value'])})"
        case "array":
            return f"v.array({_typescript(told['value'])})"
        case "record":
            return f"v.record({_typescript(told['keys'])}, {_typescript(told['values']['fieldType'])})"
        case "object":
            inner = ", ".join(f"{json.dumps(name)}: {_field(each)}" for name, each in told["value"].items())
            return f"v.object({{ {inner} }})"
        case "union":
            return f"v.union({', '.join(map(_typescript, told['value']))})"
    return f"v.{_NAMES.get(kind, kind)}()"


def _literal(value: Any) -> str:
    if isinstance(value, dict):  # Convex tells the bytes of a bigint, the lowest first
        return f"{int.from_bytes(b64decode(value['$integer']), 'little', signed=True)}n"
    return json.dumps(value)
