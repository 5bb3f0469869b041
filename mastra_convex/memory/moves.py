"""Moves: a thread that changes hands, with its messages and what was observed in it.

A move of more than one commit notes which messages it has taken from whom, in the commit that takes them. Older
generations of what was observed that do not all go with the thread in its last commit are put aside before it: nobody's
history has them then. The newest one goes with the thread. Until that is done they can be put back, and afterwards they
follow it: whoever comes next does either, by what is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from convexorm import AsyncSession, LimitExceeded, StaleDataError
from convexorm.values import MISSING, size_of
from mastra_convex.entities import Document, Message, ObservationalMemory, Thread
from mastra_convex.errors import ThreadNotFound
from mastra_convex.instants import later
from mastra_convex.memory.generations import aside_key, generations_by_all, generations_of, hand_over, thread_key
from mastra_convex.memory.owners import expect_owner
from mastra_convex.memory.unfinished import Kind, Unfinished, note_of

__all__ = ["MOVES", "TAKEN", "Move", "Undisturbed"]

TAKEN = "mastra_unfinished_moves_messages"
"""The table, among those of records without a type, of the messages that moves have taken: a record a commit."""
_MOVED_AT_ONCE = 3_000
"""Messages that change hands in one commit, fewer where they are large: each takes an index range of Convex's 4,096."""
_NOTED_AT_ONCE = 400_000
"""Characters of their ids at most, which is what a record can hold for certain."""
_GIVEN_BACK_AT_ONCE = 1_000
"""Messages given back in one commit: each is read by its id, and takes two of those ranges."""
_OBSERVED_AT_ONCE = 100
"""Generations that change hands in one commit."""
_OBSERVED_BYTES = 4 << 20
"""Bytes of their texts in one commit: as much is read again, and Convex allows 16 MiB."""


async def _give_back(session: AsyncSession, note: Mapping[str, Any], expect: Callable[[], None]) -> None:
    thread_id, to = note.get("id"), note.get("to")
    for number in range(int(note.get("steps") or 0)):
        key = _taken_key(note, number)
        taken = await session.get(Document, key)
        if taken is None:
            continue
        pairs = [(id, owner) for owner, ids in taken.record.get("of", ()) for id in ids]
        session.expunge_all()
        for start in range(0, len(pairs), _GIVEN_BACK_AT_ONCE):
            owners = dict(pairs[start : start + _GIVEN_BACK_AT_ONCE])
            last = start + _GIVEN_BACK_AT_ONCE >= len(pairs)

            async def give_back(session: AsyncSession, owners: Any = owners, last: bool = last, key: Any = key) -> None:
                for message in await session.get_many(Message, list(owners)):
                    if message is not None and (message.resource_id, message.thread_id) == (to, thread_id):
                        message.resource_id = owners[message.id]
                if last:
                    session.delete_key(Document, key)
                expect()

            await session.transact(give_back)
    await _put_back(session, note, expect)


async def _put_back(session: AsyncSession, note: Mapping[str, Any], expect: Callable[[], None]) -> None:
    """Put the generations that are aside where they were, or after the thread where that has moved."""
    aside, values = aside_key(note["work"]), dict[str, Any](lookup_key=thread_key(note["id"]))
    query = generations_by_all(aside).limit(_OBSERVED_AT_ONCE)

    async def put(session: AsyncSession) -> bool:
        found = _at_once(await session.all(query), _OBSERVED_BYTES)
        for one in found:
            if note.get("moved"):
                values["resource_id"] = note["to"]
                values["generation_count"] = one.generation_count + note["behind"]
                values["updated_at"] = later(one.updated_at)
            session.update(ObservationalMemory, one.id, values, expected={"lookup_key": aside})
        if found:
            expect()
        return bool(found)

    while await session.transact(put):
        session.expunge_all()


def _at_once(generations: Sequence[ObservationalMemory], most: int) -> Sequence[ObservationalMemory]:
    """The first generations, as many as one commit takes; one at least."""
    size = 0
    for place, one in enumerate(generations):
        size += 1024 + sum(size_of(text) for text in _texts(one))
        if place and (size > most or place >= _OBSERVED_AT_ONCE):
            return generations[:place]
    return generations


def _texts(record: ObservationalMemory) -> Iterator[Any]:
    for column in _LONG:
        value = getattr(record, column.name)
        dumped = MISSING if value is None else column.dump(value)
        if dumped is not MISSING:
            yield dumped


_LONG = [
    ObservationalMemory.__mapper__.columns[name]
    for name in (
        "active_observations",
        "buffered_reflection",
        "buffered_observation_chunks",
        "observed_message_ids",
        "activated_cycle_ids",
        "config",
        "metadata",
    )
]
"""What of a generation may be long."""

MOVES = Kind("mastra_unfinished_moves", _give_back)


def _taken_key(note: Mapping[str, Any], number: int) -> tuple[str, str]:
    return TAKEN, f"{note['work']}/{number}"


class Move:
    """A move of a thread to a resource, and how it is undone. With `own` only its owner's messages go, not all in it."""

    def __init__(
        self, session: AsyncSession, operation: str, thread_id: str, resource_id: str, source: str | None, *, own: bool
    ) -> None:
        self._session = session
        self._operation = operation
        self._thread_id = thread_id
        self._resource_id = resource_id
        self._source = source
        self._own = own
        self._at_once = _MOVED_AT_ONCE
        self._bytes = _OBSERVED_BYTES
        self._work = Unfinished(MOVES, thread_id, to=resource_id, steps=0)
        self._next = self._work.note
        self._begun = False
        """Whether it may be noted; `_noted`: whether it certainly was."""
        self._noted = False

    async def run(self) -> Thread:
        """Move everything, in as many commits as it takes; where that fails everything is moved, or nothing stays moved."""
        try:
            while True:
                moved = await self._some()
                if isinstance(moved, Thread):
                    if self._work.note.get("moved"):  # what is aside follows the thread
                        self._session.expunge_all()
                        await MOVES.take_back(self._session, self._thread_id, self._work)
                    return moved
        except BaseException:
            if self._begun:
                await self._work.undo(self._session)
            raise

    async def _some(self) -> Thread | None:
        try:
            found = await self._session.transact(self._step)
        except LimitExceeded:
            if self._at_once == 1:
                raise
            self._at_once //= 2
            self._bytes //= 2
            return None
        if found == "other" and not self._noted:
            await MOVES.take_back(self._session, self._thread_id)
        elif found == "other":  # somebody else moves it, and has given back what this one took
            raise StaleDataError(table=Thread.__mapper__.table.name, reason="changed")
        self._noted = self._noted or found == "more"
        self._work.note = self._next
        return found if isinstance(found, Thread) else None

    async def _step(self, session: AsyncSession) -> Thread | Literal["more", "other"]:
        """Move some messages, or with the last of them the thread, which is the answer. Where more is to come, that is
        noted first; nothing happens where somebody else's move is noted."""
        thread = await session.get(Thread, self._thread_id)  # whose it is holds, since every step expects that
        if thread is None or self._source not in (None, thread.resource_id):
            raise ThreadNotFound(self._thread_id, operation=self._operation)
        owner, to = thread.resource_id, self._resource_id
        inside = Message.query().by_index("by_thread", thread_id=self._thread_id).limit(self._at_once + 1)
        inside = inside.where(Message.resource_id != to)
        if self._own:
            inside = inside.where(Message.resource_id == owner)
        key, aside = thread_key(self._thread_id), generations_of(aside_key(self._work.note["work"]), owner)
        notes, messages, observed, known, oldest = await session.read(
            note_of(MOVES.table, self._thread_id),
            inside,
            generations_of(key, owner).limit(_OBSERVED_AT_ONCE + 1),
            generations_of(key, to).limit(1),
            aside.order("asc").limit(1 if self._noted else 0),
        )
        noted = notes[0].record if notes else None
        ours = noted is not None and noted.get("work") == self._work.note["work"] and not noted.get("ended")
        if not ours and (self._noted or noted is not None):
            return "other"
        if owner == to:
            observed = []
        several = len(_at_once(observed, self._bytes)) < len(observed)
        if len(messages) > self._at_once or several:
            expect_owner(session, Thread, thread.id, owner)
            if noted is None:
                self._begun = True
                self._next = self._work.note = {**self._work.note, "owner": owner}
                self._work.begin(session)
            elif len(messages) > self._at_once:
                self._take(session, noted, messages[: self._at_once])
            else:
                self._put_aside(session, noted, _at_once(observed[1:], self._bytes))
            return "more"
        for message in messages:
            message.resource_id = to
        if owner == to:
            expect_owner(session, Thread, thread.id, owner)
        behind = hand_over(session, observed, to, known[0] if known else None, oldest[0] if oldest else None)
        if noted is not None:
            self._work.note = dict(noted)
            for number in range(int(noted["steps"])):
                session.delete_key(Document, _taken_key(noted, number))
            if oldest:
                self._next = {**noted, "steps": 0, "moved": True, "behind": behind}
                self._work.expect(session, self._next)
            else:
                self._work.finish(session)
        if noted is not None or messages or observed or owner != to:
            thread.resource_id = to
            thread.updated_at = later(thread.updated_at)
        return thread

    def _put_aside(
        self, session: AsyncSession, noted: Mapping[str, Any], generations: Sequence[ObservationalMemory]
    ) -> None:
        """Put older generations aside, which says itself whose they were."""
        self._next = self._work.note = dict(noted)
        self._work.expect(session)
        for one in generations:
            expected = {"lookup_key": one.lookup_key, "resource_id": one.resource_id}
            session.update(ObservationalMemory, one.id, {"lookup_key": aside_key(noted["work"])}, expected=expected)

    def _take(self, session: AsyncSession, noted: Mapping[str, Any], messages: Sequence[Message]) -> None:
        """Move messages, and note whose they were."""
        size = 0
        taken: list[Message] = []
        for message in messages:
            size += len(message.id)
            if taken and size > _NOTED_AT_ONCE:
                break
            taken.append(message)
        number = int(noted["steps"])
        of = [[owner, [one.id for one in several]] for owner, several in groupby(taken, lambda one: one.resource_id)]
        table, key = _taken_key(noted, number)
        session.add(Document(table=table, record_key=key, record={"id": key, "of": of}), returning=False)
        self._work.note = dict(noted)
        self._next = {**noted, "steps": number + 1}
        self._work.expect(session, self._next)
        for message in taken:
            message.resource_id = self._resource_id


class Undisturbed:
    """For whoever deletes what a resource has observed in a thread: no move of that may have put a part of it aside."""

    def __init__(self, session: AsyncSession, thread_id: str | None, resource_id: str) -> None:
        self._session = session
        self._thread_id = thread_id
        self._resource_id = resource_id

    def expect(self) -> None:
        """Let the next commit be refused where a move of the thread is under way."""
        if self._thread_id is not None:
            MOVES.expect_none(self._session, self._thread_id)

    async def settle(self) -> None:
        """End a move that is about what the resource has observed; another one is in nobody's way."""
        if self._thread_id is None:
            return
        note = await self._session.first(note_of(MOVES.table, self._thread_id))
        concerned = note is not None and self._resource_id in (note.record.get("owner"), note.record.get("to"))
        self._session.expunge_all()
        if concerned:
            await MOVES.take_back(self._session, self._thread_id)
        elif note is not None:
            self._thread_id = None
