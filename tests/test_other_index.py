"""A model whose indexes have other fields than the deployed ones is refused, whatever is asked for through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from convexorm import Deployment, Index, IndexRangeError, Mapped, Model, SearchIndex, Session, VectorIndex, field
from convexorm.cursors import decode_cursor, encode_cursor
from convexorm.errors import InvalidCursorError
from convexorm.faces import finish
from convexorm.requests import (
    Commit,
    Delete,
    DeleteRange,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    Replace,
    Search,
    Unique,
    Upsert,
    Write,
)
from tests.conftest import Host
from tests.models import Chunk, Note


class OtherNote(Model, table="notes", primary_key="id"):
    """`notes` as another release declares it."""

    id: Mapped[str]
    title: Mapped[str] = field(default="")
    body: Mapped[str] = field(default="")
    by_note_id = Index("id")
    by_title = Index("body")


class OtherKey(Model, table="notes", primary_key="title"):
    title: Mapped[str]
    body: Mapped[str] = field(default="")
    by_note_id = Index("title")


class OtherChunk(Model, table="chunks"):
    kind: Mapped[str]
    text: Mapped[str]
    embedding: Mapped[list[float] | None] = field(default=None)
    by_embedding = VectorIndex("embedding", dimensions=2, filter_fields=("kind",))


class FilteredChunk(Model, table="chunks"):
    kind: Mapped[str]
    text: Mapped[str]
    embedding: Mapped[list[float] | None] = field(default=None)
    by_embedding = VectorIndex("embedding", dimensions=3, filter_fields=("text",))


class OtherMessage(Model, table="messages"):
    channel: Mapped[str | None]
    by_text = SearchIndex("channel")


class FilteredMessage(Model, table="messages"):
    id: Mapped[str]
    text: Mapped[str | None]
    by_text = SearchIndex("text", filter_fields=("id",))


TABLE = OtherNote.__mapper__.table
KEY = Key("by_title", ("x",))
DOCUMENT = {"id": "new", "title": "", "body": ""}


@pytest.fixture
def deployment(models_host: Host) -> Iterator[Deployment]:
    with models_host.connect() as deployment:
        yield deployment


@pytest.fixture
def kept(deployment: Deployment) -> Iterator[None]:
    """Notes that a request through another index would find, and that are there afterwards."""
    with Session(deployment) as session:
        session.delete_all(Note.query().full_scan())
        session.add_all([Note(id="1", title="x", body="y"), Note(id="2", title="y", body="x")])
        session.commit()
    yield
    with Session(deployment) as session:
        assert sorted((note.id, note.title, note.body) for note in session.all(Note.query().full_scan())) == [
            ("1", "x", "y"),
            ("2", "y", "x"),
        ]


REQUESTS: dict[str, Read | Write] = {
    "read": Read(Range(TABLE, "by_title", ("x",))),
    "delete a range": DeleteRange(Range(TABLE, "by_title", ("x",))),
    "insert": Insert(TABLE, DOCUMENT, unique=[Unique("by_title", ("z",))]),
    "upsert": Upsert(TABLE, KEY, DOCUMENT),
    "patch": Patch(TABLE, KEY, {"title": "new"}),
    "patch to a key": Patch(TABLE, Key("by_note_id", ("1",)), {"title": "new"}, unique=[Unique("by_title", ("z",))]),
    "replace": Replace(TABLE, KEY, DOCUMENT),
    "delete": Delete(TABLE, KEY),
    "delete what is not there": Delete(TABLE, Key("by_title", ("z",)), missing="skip"),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_is_refused_and_names_both_lists(deployment: Deployment, name: str) -> None:
    request, port = REQUESTS[name], deployment.blocking
    with pytest.raises(IndexRangeError, match=r"\[body\].*\[title\].*python -m convexorm schema") as refused:
        finish(port.read([request]) if isinstance(request, Read) else port.commit(Commit(f"other {name}", [request])))
    assert (refused.value.table, refused.value.index, refused.value.fields) == ("notes", "by_title", ("body",))


SESSIONS: dict[str, Callable[[Session], Any]] = {
    "get": lambda session: session.get(OtherKey, "1"),
    "query": lambda session: session.all(OtherNote.query().by_index("by_title", body="x")),
    "count": lambda session: session.count(OtherNote.query().where(OtherNote.body == "x")),
    "page": lambda session: session.page(OtherNote.query().by_index("by_title", body="x"), 2),
    "delete all": lambda session: session.delete_all(OtherNote.query().by_index("by_title", body="x")),
    "add": lambda session: (session.add(OtherKey(title="1")), session.commit()),
    "search": lambda session: session.search(OtherChunk.by_embedding, [1.0, 0.0]),
    "search of another text": lambda session: session.search_text(OtherMessage.by_text, "x"),
    "search of a text by a filter": lambda session: session.search_text(
        FilteredMessage.by_text, "x", where=FilteredMessage.id == "x"
    ),
    "search by a filter": lambda session: session.search(
        FilteredChunk.by_embedding, [1.0, 0.0, 0.0], where=FilteredChunk.text == "x"
    ),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_says_so_whatever_it_does(deployment: Deployment, name: str) -> None:
    with Session(deployment) as session, pytest.raises(IndexRangeError, match="deployed is"):
        SESSIONS[name](session)


def test_what_a_search_assumes_is_named_with_dimensions_and_filter_fields(deployment: Deployment) -> None:
    search = Search(FilteredChunk.__mapper__.table, "by_embedding", [1.0, 0.0, 0.0], 1, (("text", "x"),))
    with pytest.raises(IndexRangeError, match=r"\[embedding, 3 dimensions, filter text\].*\[.*filter kind\]"):
        finish(deployment.blocking.search(search))


def test_a_search_that_uses_no_filter_assumes_none(deployment: Deployment) -> None:
    with Session(deployment) as session:
        session.delete_all(Chunk.query().full_scan())
        session.add(Chunk(text="x", kind="k", embedding=[1.0, 0.0, 0.0]))
        session.commit()
    with Session(deployment) as session:
        assert [hit.item.text for hit in session.search(FilteredChunk.by_embedding, [1.0, 0.0, 0.0])] == ["x"]


def test_a_cursor_is_bound_to_the_fields_of_its_index() -> None:
    mine, theirs = (Read(Range(model.__mapper__.table, "by_title")) for model in (Note, OtherNote))
    cursor = encode_cursor(mine, ("x", 1.0, "id"))
    assert decode_cursor(mine, cursor) == ("x", 1.0, "id")
    with pytest.raises(InvalidCursorError, match="another query"):
        decode_cursor(theirs, cursor)
