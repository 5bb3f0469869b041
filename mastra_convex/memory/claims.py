"""Claims: who is at work on a record of observational memory, so that two processes do not do one thing twice.

A flag of a record that is True is somebody's claim. It ends when it is given back, or when its term is over: whoever held
it may be dead. The term, and the owner's name where there is one, stand beside the flags; the npm package knows neither,
so a flag that it has set ends when the record has not changed for as long as a claim holds by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from convexorm.types import iso_timestamp
from mastra_convex.entities import ObservationalMemory
from mastra_convex.instants import after

__all__ = ["LEASE_MS", "carried", "claim", "release"]

LEASE_MS = 600_000.0
"""For how long a claim holds unless it says another time."""


@attrs.frozen
class _Claim:
    """A claim that is held. `known` is False for one whose owner and term are not stored."""

    owner: str | None
    until: datetime
    known: bool


def claim(record: ObservationalMemory, flag: str, owner: str | None, lease_ms: float, moment: datetime) -> bool:
    """Take the claim that a flag is, unless somebody else holds it. Its owner takes it again, for a new term."""
    held = _held(record, flag)
    if held is not None and held.until > moment and (owner is None or held.owner != owner):
        return False
    setattr(record, flag, True)
    _note(record, flag, {"owner": owner, "until": iso_timestamp(after(moment, lease_ms))})
    return True


def release(record: ObservationalMemory, flag: str, owner: str | None) -> bool:
    """Give a claim back. One that is another owner's stays; without an owner any is given back."""
    held = _held(record, flag)
    if held is not None and owner is not None and held.known and held.owner != owner:
        return False
    setattr(record, flag, False)
    _note(record, flag, None)
    return True


def carried(record: ObservationalMemory, flags: tuple[str, ...]) -> dict[str, Any]:
    """The attributes that give the record's claims of these flags to another record."""
    claims = {flag: one for flag, one in (record.claims or {}).items() if flag in flags}
    return {**{flag: getattr(record, flag) for flag in flags}, "claims": claims or None}


def _held(record: ObservationalMemory, flag: str) -> _Claim | None:
    if not getattr(record, flag):
        return None
    noted = (record.claims or {}).get(flag)
    if isinstance(noted, Mapping):
        try:
            until = datetime.fromisoformat(noted["until"])
            if until.utcoffset() is not None:
                return _Claim(noted.get("owner"), until, True)
        except (KeyError, TypeError, ValueError):
            pass
    return _Claim(None, after(record.updated_at, LEASE_MS), False)


def _note(record: ObservationalMemory, flag: str, noted: Mapping[str, Any] | None) -> None:
    claims = {name: one for name, one in (record.claims or {}).items() if name != flag}
    if noted is not None:
        claims[flag] = noted
    record.claims = claims or None
