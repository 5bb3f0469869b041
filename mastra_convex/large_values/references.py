"""What stands in a column's place for a value that is in a file, and what the file holds.

The column holds the JSON text of an object: `largeValue` names the file, beside it are members of the value that conditions
ask for, and those without which others could not read it. What others set beside `largeValue` since goes over what the file
holds, as merging would have had it. The file begins with a line that says whose value it is, so that a text which names
another's file is a text. Its content type says so, too, for whoever looks for files that are nobody's.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import attrs

from convexorm import Condition, Model
from convexorm.files import MAX_CONTENT_TYPE
from convexorm.types import json_value
from convexorm.values import MAX_DOCUMENT_SIZE
from mastra_convex.entities import BackgroundTask, Message, WorkflowSnapshot

__all__ = [
    "COLUMNS",
    "LARGE",
    "MARKED",
    "MODELS",
    "Kept",
    "Owner",
    "beside_of",
    "body_of",
    "file_of",
    "key_of",
    "named_in",
    "owner_of",
    "placeholder",
    "restored",
]

LARGE = MAX_DOCUMENT_SIZE - (128 << 10)
"""Bytes that the values of a document may have which could be in files; the rest is for all others."""
MODELS: Mapping[str, type[Model]] = {model.__mapper__.name: model for model in (Message, WorkflowSnapshot, BackgroundTask)}
"""The tables with such values."""

_MEMBER = "largeValue"
_MOST_BESIDE = 512 << 10
"""Bytes of members beside the name of a file, which every query has to read."""
_KIND = "application/vnd.mastra.value"
_INSTEAD = [{"type": "text", "text": "(too large to be shown here)"}]
"""What a list of parts holds for those who do not read files."""


@attrs.frozen
class Kept:
    """Of a column's value the members that stay beside the name of its file, and the lists that others expect there."""

    whole: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


COLUMNS: Mapping[str, Mapping[str, Kept]] = {
    Message.__mapper__.name: {"content": Kept(whole=("format", "metadata"), lists=("parts",))},
    WorkflowSnapshot.__mapper__.name: {"snapshot": Kept(whole=("status",))},
    BackgroundTask.__mapper__.name: {"args": Kept(), "result": Kept(), "error": Kept(), "suspend_payload": Kept()},
}
"""By table and field, the columns of JSON text whose values may be in files. All other columns keep to Convex's limit."""

MARKED: Mapping[str, Condition] = {
    Message.__mapper__.name: Message.content[_MEMBER]["file"] >= "",
    WorkflowSnapshot.__mapper__.name: WorkflowSnapshot.snapshot[_MEMBER]["file"] >= "",
    BackgroundTask.__mapper__.name: (BackgroundTask.args[_MEMBER]["file"] >= "")
    | (BackgroundTask.result[_MEMBER]["file"] >= "")
    | (BackgroundTask.error[_MEMBER]["file"] >= "")
    | (BackgroundTask.suspend_payload[_MEMBER]["file"] >= ""),
}
"""By table, what holds for documents that name a file."""


def key_of(own: str, document: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The primary key of a document of a table; None where that is not of texts."""
    held = [document.get(field) for field in MODELS[own].__mapper__.key_fields]
    key = tuple(one for one in held if isinstance(one, str))
    return key if len(key) == len(held) else None


def named_in(table: str, own: str, document: Mapping[str, Any]) -> dict[str, Owner]:
    """The files that a document names, and whose they are."""
    key = key_of(own, document)
    files = {file_of(document.get(field)): field for field in COLUMNS[own]}
    return {file: Owner(table, key, field) for file, field in files.items() if file is not None and key is not None}


@attrs.frozen
class Owner:
    """Whose value it is: a field of the document of a table, as the deployment calls it, with a primary key."""

    table: str
    key: tuple[str, ...]
    field: str

    @property
    def content_type(self) -> str | None:
        """That of its files; None for a key that is too long for one."""
        said = json.dumps([self.table, self.field, *self.key]).encode()
        text = f"{_KIND}; of={urlsafe_b64encode(said).decode()}"
        return None if len(text) > MAX_CONTENT_TYPE else text

    @property
    def line(self) -> bytes:
        """The first line of its files."""
        return json.dumps([self.table, self.field, *self.key]).encode() + b"\n"


def owner_of(content_type: str | None) -> Owner | None:
    """Whose value a stored file is, None for one that is none."""
    kind, _, text = (content_type or "").partition("; of=")
    if kind != _KIND:
        return None
    try:
        table, field, *key = json.loads(urlsafe_b64decode(text))
    except (ValueError, TypeError):
        return None
    return Owner(table, tuple(key), field) if all(isinstance(one, str) for one in (table, field, *key)) else None


def body_of(owner: Owner, text: str) -> bytes:
    """What the file of a value holds."""
    return owner.line + text.encode()


def beside_of(kept: Kept, text: str) -> dict[str, Any] | None:
    """The members that stay beside the name of a value's file; None where they would be too large themselves."""
    value = json.loads(text)
    if not isinstance(value, dict):
        return {}
    whole = {name: value[name] for name in kept.whole if name in value}
    return None if len(_json(whole).encode()) > _MOST_BESIDE else whole | dict.fromkeys(kept.lists, _INSTEAD)


def placeholder(beside: Mapping[str, Any], text: str, file: str) -> str:
    """What stands in the place of a value."""
    return _json({**beside, _MEMBER: {"file": file, "size": len(text.encode()), "beside": _digest(beside)}})


def file_of(text: object) -> str | None:
    """The id of the file that stands in a value's place; None for a value that is there itself."""
    if not isinstance(text, str) or _MEMBER not in text:
        return None
    named = _named(text)
    return None if named is None else named[1]["file"]


def restored(owner: Owner, text: str, body: bytes) -> str | None:
    """The value, from what stands in its place and what the file holds; None where the file is another's."""
    if not body.startswith(owner.line):
        return None
    value = body[len(owner.line) :].decode()
    named = _named(text)
    assert named is not None
    beside, said = named
    if _digest(beside) == said.get("beside"):
        return value
    whole = json.loads(value)
    changed = {name: one for name, one in beside.items() if one != _INSTEAD}
    return _json({**(whole if isinstance(whole, dict) else {}), **changed})


def _named(text: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What stands beside the name of a file, and that."""
    value = json_value(text)
    if not isinstance(value, dict) or not isinstance(value.get(_MEMBER), dict):
        return None
    named = value.pop(_MEMBER)
    return (value, named) if isinstance(named.get("file"), str) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _digest(beside: Mapping[str, Any]) -> str:
    return sha256(json.dumps(beside, sort_keys=True).encode()).hexdigest()[:32]
