"""Copies of more than one commit: whatever ends one before its last commit, what it has written can be taken back.

A note under the new thread's id says which copy is under way, and the ids of its messages follow from the note. Every
commit of the copy expects the note, and the last one removes it. So whoever finds a note can end that copy and delete what
it has written, and nothing of it arrives afterwards: the one who began it, when something goes wrong, or after a process
has died the next one who copies to this id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4, uuid5

from convexorm import AsyncSession, Query, StaleDataError
from mastra_convex.entities import Document, Message

__all__ = ["UNFINISHED", "UnfinishedCopy", "note_of", "take_back_others"]

UNFINISHED = "mastra_unfinished_copies"
"""The table, among those of records without a type, that has the notes."""
_TAKEN_BACK_AT_ONCE = 1_000
"""Messages deleted by id in one commit: each takes two of the 4,096 index ranges Convex allows."""


def note_of(thread_id: str) -> Query[Document]:
    """The note of a copy to this thread, if there is one."""
    return Document.query().by_index("by_table_primary", table=UNFINISHED, record_key=thread_id).limit(1)


class UnfinishedCopy:
    """A copy to a thread, from its first commit to its last."""

    def __init__(self, session: AsyncSession, thread_id: str, note: Mapping[str, Any]) -> None:
        self._session = session
        self._key = (UNFINISHED, thread_id)
        self._note = note

    @classmethod
    async def begun(cls, session: AsyncSession, thread_id: str, count: int) -> UnfinishedCopy:
        """Note a copy of so many messages. Raises StaleDataError where another one is under way."""
        note = {"id": thread_id, "copy": uuid4().hex, "messages": count}
        session.add(Document(table=UNFINISHED, record_key=thread_id, record=note), returning=False)
        await session.commit()
        session.expunge_all()
        return cls(session, thread_id, note)

    def ids(self) -> list[str]:
        """The ids of the new messages, in order."""
        copy, count = self._note.get("copy"), self._note.get("messages")
        if not isinstance(copy, str) or not isinstance(count, int | float):
            return []
        return [str(uuid5(UUID(copy), str(number))) for number in range(int(count))]

    def expect(self) -> None:
        """Let the next commit be refused, with StaleDataError, if somebody has ended the copy."""
        self._session.update(Document, self._key, {}, expected={"record": self._note})

    def finish(self) -> None:
        """Let the next commit be the last one."""
        self._session.delete_key(Document, self._key, expected={"record": self._note}, missing_ok=False)

    async def take_back(self) -> None:
        """End the copy and delete what it has written. Nothing happens if it is finished, or somebody else ends it."""
        session, ended = self._session, {**self._note, "ended": uuid4().hex}
        try:
            session.update(Document, self._key, {"record": ended}, expected={"record": self._note})
            await session.commit()
            ids = self.ids()
            for start in range(0, len(ids), _TAKEN_BACK_AT_ONCE):
                for id in ids[start : start + _TAKEN_BACK_AT_ONCE]:
                    session.delete_key(Message, id)
                await session.commit()
            session.delete_key(Document, self._key, expected={"record": ended})
            await session.commit()
        except StaleDataError:
            session.rollback()


async def take_back_others(session: AsyncSession, thread_id: str) -> None:
    """End whatever copy to this thread is not finished, and delete what it has written."""
    while (note := await session.first(note_of(thread_id))) is not None:
        record = note.record
        session.expunge_all()
        await UnfinishedCopy(session, thread_id, record).take_back()
