"""Work of more than one commit: whatever ends it before its last one, what it has written can be taken back.

A note under a thread's id says what is under way: a copy to that thread, or a move of it to another resource. What has been
written follows from the note. Every commit of the work expects the note, and the last one removes it. So whoever finds a
note can end that work and take back what it has written, and nothing of it arrives afterwards: the one who began it, when
something goes wrong, or after a process has died the next one whose work the rest would be in the way of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

from convexorm import AsyncSession, Query, StaleDataError
from mastra_convex.entities import Document
from mastra_convex.undoing import undone

__all__ = ["Kind", "Unfinished", "note_of"]

TakeBack = Callable[[AsyncSession, Mapping[str, Any], Callable[[], None]], Awaitable[None]]
"""Deletes or gives back what a note tells of. Each of its commits calls the function first, so that it is of this note."""


class Kind:
    """A kind of work: the table, among those of records without a type, that has its notes, and how it is taken back."""

    def __init__(self, table: str, take_back: TakeBack) -> None:
        self.table = table
        self._take_back = take_back

    def expect_none(self, session: AsyncSession, thread_id: str) -> None:
        """Let the next commit be refused, with StaleDataError, where such work is under way at the thread."""
        session.update(Document, (self.table, thread_id), {}, expected={"record": {}}, missing_ok=True)

    async def take_back(self, session: AsyncSession, thread_id: str, known: Unfinished | None = None) -> None:
        """End what is under way at the thread, or only what is `known`, and undo it. Can be cut off, and run again."""
        record: Any = None if known is None else known.note
        while True:
            if record is None:
                note = await session.first(note_of(self.table, thread_id))
                if note is None or (known is not None and note.record.get("work") != known.note["work"]):
                    return
                record = note.record
                session.expunge_all()
            try:
                await self._end(session, thread_id, record)
                return
            except StaleDataError:  # it has gone on, is finished, or is taken back by somebody else
                session.expunge_all()
                record = None

    async def _end(self, session: AsyncSession, thread_id: str, record: Mapping[str, Any]) -> None:
        key = (self.table, thread_id)
        ended = record
        if not record.get("ended"):
            ended = {**record, "ended": uuid4().hex}
            session.update(Document, key, {"record": ended}, expected={"record": record})
            await session.commit()

        def expect() -> None:
            session.update(Document, key, {}, expected={"record": ended})

        await self._take_back(session, ended, expect)
        session.delete_key(Document, key, expected={"record": ended}, missing_ok=False)
        await session.commit()


class Unfinished:
    """Work on a thread, from its first commit to its last. `note` is what is stored of it."""

    def __init__(self, kind: Kind, thread_id: str, **known: Any) -> None:
        self._kind = kind
        self._thread_id = thread_id
        self._key = (kind.table, thread_id)
        self.note: dict[str, Any] = {"id": thread_id, "work": uuid4().hex, **known}

    def begin(self, session: AsyncSession) -> None:
        """Let the next commit be the first one. It is refused, with StaleDataError, where such work is under way."""
        table, key = self._key
        session.add(Document(table=table, record_key=key, record=self.note), returning=False)

    def expect(self, session: AsyncSession, note: Mapping[str, Any] | None = None) -> None:
        """Let the next commit be refused, with StaleDataError, if somebody has ended the work; it stores another `note`."""
        session.update(Document, self._key, {} if note is None else {"record": note}, expected={"record": self.note})

    def finish(self, session: AsyncSession) -> None:
        """Let the next commit be the last one."""
        session.delete_key(Document, self._key, expected={"record": self.note}, missing_ok=False)

    async def undo(self, session: AsyncSession) -> None:
        """Take it back; nothing happens if it is finished. Interrupted, it goes on, and is interrupted afterwards."""

        async def take_back() -> None:
            session.expunge_all()
            await self._kind.take_back(session, self._thread_id, self)

        await undone(take_back)


def note_of(table: str, thread_id: str) -> Query[Document]:
    """The note of what is under way at this thread, if there is one."""
    return Document.query().by_index("by_table_primary", table=table, record_key=thread_id).limit(1)
