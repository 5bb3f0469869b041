"""Chunks of observations that wait to become active: checked as they are given, and matched with what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import uuid4

import attrs

from mastra_convex.arguments import (
    check_amount,
    check_id,
    check_instant,
    check_keys,
    check_mapping,
    check_optional_text,
    check_text,
    check_texts,
)
from mastra_convex.chunks import BufferedObservationChunk
from mastra_convex.errors import InvalidArgument
from mastra_convex.instants import now

__all__ = [
    "ObservationChunk",
    "RefreshedChunk",
    "left_buffered",
    "new_chunk",
    "once",
    "refreshed_chunk",
    "still_buffered",
    "whole_chunk",
]


class _Chunk(TypedDict):
    cycle_id: str
    observations: str
    token_count: float
    message_ids: Sequence[str]
    message_tokens: float
    last_observed_at: datetime


class ObservationChunk(_Chunk, total=False):
    """What one observation cycle found."""

    suggested_continuation: str | None
    current_task: str | None
    thread_title: str | None
    extracted_values: Mapping[str, Any] | None
    extraction_failures: Sequence[Mapping[str, str]] | None


class RefreshedChunk(TypedDict, total=False):
    """A buffered chunk, known by its `id` or else by its `cycle_id`, with the `message_tokens` it has by now."""

    id: str
    cycle_id: str
    message_tokens: float


_REQUIRED = ("cycle_id", "observations", "token_count", "message_ids", "message_tokens", "last_observed_at")
_HINTS = ("suggested_continuation", "current_task", "thread_title")
_INPUT = (*_REQUIRED, *_HINTS, "extracted_values", "extraction_failures")


def new_chunk(operation: str, given: object) -> BufferedObservationChunk:
    """What a cycle observed, as a chunk to buffer now. Raises InvalidArgument for one that is not whole."""
    values = check_keys(operation, "chunk", given, _INPUT)
    return _chunk(operation, {**values, "id": f"ombuf-{uuid4()}", "created_at": now()})


def whole_chunk(operation: str, given: object) -> BufferedObservationChunk:
    """A chunk as it is stored, from one or from a mapping of its attributes."""
    if isinstance(given, BufferedObservationChunk):
        return attrs.evolve(given, **_read(operation, "chunk", given))
    values = check_keys(operation, "chunk", given, ("id", "created_at", *_INPUT, "other"))
    return _chunk(operation, {"id": f"ombuf-{uuid4()}", "created_at": now(), **values})


def _chunk(operation: str, values: Mapping[str, Any]) -> BufferedObservationChunk:
    for name in _REQUIRED:
        if values.get(name) is None:
            raise InvalidArgument("required, and not given", operation=operation, argument=f"chunk.{name}")
    for name in _HINTS:
        check_optional_text(operation, f"chunk.{name}", values.get(name))
    if values.get("extracted_values") is not None:
        check_mapping(operation, "chunk.extracted_values", values["extracted_values"])
    checked = {
        "id": check_id(operation, "chunk.id", values["id"]),
        "cycle_id": check_id(operation, "chunk.cycle_id", values["cycle_id"]),
        "observations": check_text(operation, "chunk.observations", values["observations"]),
        "token_count": check_amount(operation, "chunk.token_count", values["token_count"]),
        "message_tokens": check_amount(operation, "chunk.message_tokens", values["message_tokens"]),
        "message_ids": check_texts(operation, "chunk.message_ids", values["message_ids"]),
        "last_observed_at": check_instant(operation, "chunk.last_observed_at", values["last_observed_at"]),
        "created_at": check_instant(operation, "chunk.created_at", values["created_at"]),
    }
    return BufferedObservationChunk(**{**values, **checked})


_REFRESHED: dict[str, Callable[[str, str, object], Any]] = {
    "observations": check_text,
    "token_count": check_amount,
    "message_tokens": check_amount,
    "message_ids": check_texts,
    "last_observed_at": check_instant,
    "created_at": check_instant,
    "extracted_values": check_mapping,
    **dict.fromkeys(_HINTS, check_optional_text),
}

_ALWAYS = frozenset((*_REQUIRED, "created_at"))
"""What no chunk is without."""


def refreshed_chunk(operation: str, given: object) -> Mapping[str, Any]:
    """What the caller knows of a buffered chunk, by attribute."""
    if isinstance(given, BufferedObservationChunk):
        return _read(operation, "buffered_chunks", given)
    known = ("id", "created_at", *_INPUT, "other")
    values = {
        name: value for name, value in check_keys(operation, "buffered_chunks", given, known).items() if value is not None
    }
    if "id" not in values and "cycle_id" not in values:
        raise InvalidArgument("each has an id or a cycle_id", operation=operation, argument="buffered_chunks")
    for name, check in _REFRESHED.items():
        if name in values:
            values[name] = check(operation, f"buffered_chunks.{name}", values[name])
    return values


def _read(operation: str, argument: str, given: BufferedObservationChunk) -> dict[str, Any]:
    """The attributes of a chunk that was read, checked: its caller may have changed them. Ids that another writer has left
    out are empty in it."""
    values = attrs.asdict(given, recurse=False)
    for name in ("id", "cycle_id"):
        check_text(operation, f"{argument}.{name}", values[name])
    for name, check in _REFRESHED.items():
        if values[name] is not None or name in _ALWAYS:
            values[name] = check(operation, f"{argument}.{name}", values[name])
    return values


def still_buffered(
    stored: Sequence[BufferedObservationChunk], refreshed: Iterable[Mapping[str, Any]]
) -> list[BufferedObservationChunk]:
    """The refreshed chunks that are still buffered, in the caller's order, each once."""
    left = list(stored)
    known: list[BufferedObservationChunk] = []
    for values in refreshed:
        name = "id" if "id" in values else "cycle_id"
        found = next((one for one in left if getattr(one, name) == values[name]), None)
        if found is not None:
            left.remove(found)
            known.append(attrs.evolve(found, **values))
    return known


def left_buffered(
    stored: Sequence[BufferedObservationChunk],
    known: Sequence[BufferedObservationChunk],
    chosen: Sequence[BufferedObservationChunk],
) -> list[BufferedObservationChunk]:
    """What stays buffered: everything stored that was not chosen, with the caller's fresh tokens where known.

    Chunks that another writer has given no ids, or the same, are told apart by their places.
    """
    left, gone, fresh = [], list(map(_name, chosen)), {_name(one): one for one in known}
    for one in stored:
        if _name(one) in gone:
            gone.remove(_name(one))
        else:
            left.append(fresh.get(_name(one), one) if one.id else one)
    return left


def once(chunks: Sequence[BufferedObservationChunk]) -> list[BufferedObservationChunk]:
    """The chunks without those that are another one again. A cycle's name alone does not make two of them one."""
    return list({_name(one) if one.id else (str(place), ""): one for place, one in enumerate(chunks)}.values())


def _name(chunk: BufferedObservationChunk) -> tuple[str, str]:
    return chunk.id, chunk.cycle_id
