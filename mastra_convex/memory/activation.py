"""Which buffered observations become active, and what the active ones are afterwards: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs

from convexorm.types import iso_timestamp
from mastra_convex.chunks import BufferedObservationChunk

__all__ = ["ActivatedChunk", "ActivatedObservations", "Activation", "appended", "reflected", "summary"]

_RETAINED = 1_000
"""Message tokens that an activation leaves at least, where the retention floor is not lower still."""
_OVERSHOOT = 0.95
"""The part of the retention floor that an activation may take beyond its target."""
_SPACE = (
    " \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript's `trim` takes away."""


@attrs.frozen
class ActivatedChunk:
    """What became of one chunk."""

    cycle_id: str
    message_tokens: float
    observation_tokens: float
    message_count: int
    observations: str


@attrs.frozen
class ActivatedObservations:
    """What a swap of buffered observations activated. The hints are those of the newest activated chunk."""

    chunks_activated: int = 0
    message_tokens_activated: float = 0
    observation_tokens_activated: float = 0
    messages_activated: int = 0
    activated_cycle_ids: list[str] = attrs.field(factory=list)
    activated_message_ids: list[str] = attrs.field(factory=list)
    observations: str | None = None
    per_chunk: list[ActivatedChunk] | None = None
    suggested_continuation: str | None = None
    current_task: str | None = None


@attrs.frozen
class Activation:
    """How much to activate: tokens are removed from the `pending` ones until `1 - ratio` of the `threshold` remains.

    With `force` more rather than fewer chunks are taken.
    """

    ratio: float
    threshold: float
    pending: float
    force: bool = False

    def count(self, chunks: Sequence[BufferedObservationChunk]) -> int:
        """How many of the chunks, from the first, come nearest to the target.

        The first boundary at or over the target is preferred, unless it goes too far beyond it or leaves too little; then
        the last one under it. Where neither fits it is the one over the target, else the first chunk alone.
        """
        floor = self.threshold * (1 - self.ratio)
        target = max(0.0, self.pending - floor)
        over = under = 0
        over_tokens = under_tokens = total = 0.0
        for boundary, chunk in enumerate(chunks, 1):
            total += chunk.message_tokens
            if total < target:
                if total > under_tokens:
                    under, under_tokens = boundary, total
            elif not over or total < over_tokens:
                over, over_tokens = boundary, total
        retained = min(_RETAINED, floor)
        spares = self.pending - over_tokens >= retained
        if over and spares and (self.force or over_tokens - target <= floor * _OVERSHOOT):
            return over
        if under and self.pending - under_tokens >= retained:
            return under
        return over or 1


def appended(active: str, chunks: Sequence[BufferedObservationChunk], moment: datetime) -> str:
    """The active observations with those of the chunks behind them, after a boundary that names the moment."""
    added = _joined(chunks)
    return f"{active}\n\n--- message boundary ({iso_timestamp(moment)}) ---\n\n{added}" if active else added


def reflected(active: str, reflection: str, lines: int) -> str:
    """The reflection in place of the first lines of the active observations, with the others behind it."""
    rest = "\n".join(active.split("\n")[lines:]).strip(_SPACE)
    return f"{reflection}\n\n{rest}" if rest else reflection


def summary(chunks: Sequence[BufferedObservationChunk]) -> ActivatedObservations:
    """What the activation of these chunks answers."""
    newest = chunks[-1]
    return ActivatedObservations(
        chunks_activated=len(chunks),
        message_tokens_activated=sum(chunk.message_tokens for chunk in chunks),
        observation_tokens_activated=sum(chunk.token_count for chunk in chunks),
        messages_activated=sum(len(chunk.message_ids) for chunk in chunks),
        activated_cycle_ids=[chunk.cycle_id for chunk in chunks if chunk.cycle_id],
        activated_message_ids=[id for chunk in chunks for id in chunk.message_ids],
        observations=_joined(chunks),
        per_chunk=[
            ActivatedChunk(
                cycle_id=chunk.cycle_id,
                message_tokens=chunk.message_tokens,
                observation_tokens=chunk.token_count,
                message_count=len(chunk.message_ids),
                observations=chunk.observations,
            )
            for chunk in chunks
        ],
        suggested_continuation=newest.suggested_continuation,
        current_task=newest.current_task,
    )


def _joined(chunks: Sequence[BufferedObservationChunk]) -> str:
    return "\n\n".join(chunk.observations for chunk in chunks)
