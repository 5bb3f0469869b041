"""Chunks of buffered observations, and how a record of observational memory stores them: as JSON text in camelCase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from convexorm.errors import ValidationError
from convexorm.schema import String
from convexorm.types import ColumnType, IsoDatetimeType, json_text, json_value
from convexorm.values import Value

__all__ = ["BufferedObservationChunk", "ChunksType"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.define(kw_only=True)
class BufferedObservationChunk:
    """What one observation cycle found, waiting to be activated. `other` keeps what newer writers add."""

    id: str
    cycle_id: str
    observations: str
    token_count: float
    message_ids: list[str]
    message_tokens: float
    last_observed_at: datetime
    created_at: datetime
    suggested_continuation: str | None = None
    current_task: str | None = None
    thread_title: str | None = None
    extracted_values: Mapping[str, Any] | None = None
    extraction_failures: Sequence[Mapping[str, str]] | None = None
    other: dict[str, Any] = attrs.field(factory=dict, repr=False)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_WIRE = {attribute.name: _camel(attribute.name) for attribute in attrs.fields(BufferedObservationChunk)[:-1]}
_TIME = IsoDatetimeType()
_TIMES = ("last_observed_at", "created_at")
_WHEN_MISSING: Mapping[str, Any] = {"id": "", "cycle_id": "", "observations": "", "token_count": 0, "message_tokens": 0}


class ChunksType(ColumnType[list[BufferedObservationChunk]]):
    """A list of chunks as JSON text. Text that is no JSON array loads as no chunks, as it does for the npm package."""

    mutable = True
    json_text = True
    validator = String()

    def dump(self, value: list[BufferedObservationChunk]) -> Value:
        try:
            return json_text([_dumped(chunk) for chunk in value])
        except (AttributeError, TypeError) as error:
            raise ValidationError(f"expected a list of BufferedObservationChunk, got {type(value).__name__}") from error

    def load(self, value: Value) -> list[BufferedObservationChunk]:
        stored = json_value(value) if isinstance(value, str) else None
        return [_loaded(one) for one in stored if isinstance(one, dict)] if isinstance(stored, list) else []


def _dumped(chunk: BufferedObservationChunk) -> dict[str, Any]:
    fields = {wire: getattr(chunk, name) for name, wire in _WIRE.items()}
    return {name: value for name, value in fields.items() if value is not None} | chunk.other


def _loaded(stored: Mapping[str, Any]) -> BufferedObservationChunk:
    values: dict[str, Any] = {name: stored.get(wire) for name, wire in _WIRE.items()}
    for name, value in _WHEN_MISSING.items():
        if values[name] is None:
            values[name] = value
    values["message_ids"] = values["message_ids"] or []
    for name in _TIMES:
        values[name] = _EPOCH if values[name] is None else _TIME.load(values[name])
    other = {name: value for name, value in stored.items() if name not in _WIRE.values()}
    return BufferedObservationChunk(**values, other=other)
