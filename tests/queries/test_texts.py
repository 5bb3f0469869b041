"""Text search: the same documents in the same order on every deployment, by Convex's rules."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    DeploymentError,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    Mapped,
    Model,
    SearchIndex,
    Session,
    ValidationError,
    and_,
    connect,
)
from convexorm.errors import ConvexORMError
from convexorm.words import words_of
from tests.conftest import Host
from tests.models import Message, Note
from tests.queries.conftest import Open

TEXTS = [
    "Lisbon fig tart",
    "figs and dates",
    "the figure of Lisbon, Lisbon",
    "nothing",
    "fig",
    "a fig, a fig: a long text about other matters",
]


@pytest.fixture
def stored(deployment: Deployment) -> None:
    with Session(deployment) as session:
        session.delete_all(Message.query().full_scan())
        session.add_all([Message(id=str(n), text=text, channel="ab"[n % 2]) for n, text in enumerate(TEXTS)])
        session.commit()


async def found(session: AsyncSession, text: str, **options: Any) -> list[str]:
    return [one.id for one in await session.search_text(Message.by_text, text, **options)]


async def test_any_of_the_words_is_looked_for_and_the_last_may_be_the_beginning_of_one(stored: None, open_: Open) -> None:
    assert await found(open_(), "lisbon fig") == ["2", "0", "4", "1", "5"]
    assert await found(open_(), "fig LISBON!") == ["0", "2", "4", "5"]
    assert await found(open_(), "fi") == ["1", "2", "4", "0", "5"]
    assert await found(open_(), "fig", limit=2) == ["4", "1"]
    assert await found(open_(), "igs") == []


async def test_filters_are_equalities_that_all_hold(stored: None, open_: Open) -> None:
    assert await found(open_(), "fig", where=Message.channel == "a") == ["4", "0", "2"]
    assert await found(open_(), "fig", where=(Message.channel == "a") & (Message.read == True)) == []  # noqa: E712
    assert await found(open_(), "fig", where=Message.channel == None) == []  # noqa: E711
    session = open_()
    (first,) = await session.search_text(Message.by_text, "tart")
    first.channel = None
    await session.commit()
    assert await found(open_(), "fig", where=Message.channel == None) == ["0"]  # noqa: E711


async def test_what_is_found_is_what_was_committed(stored: None, open_: Open) -> None:
    session = open_()
    (date,) = await session.search_text(Message.by_text, "dates")
    date.text = "plums"
    await session.delete(await session.get_one(Message, "2"))
    await session.upsert(Message(id="0", text="a plum", channel="b"))
    await session.update(Message, "4", {"text": None})
    await session.add(Message(id="9", text="Plum. Plum!"))
    assert await found(session, "plum") == []
    await session.commit()
    assert await found(open_(), "fig lisbon") == ["5"]
    assert await found(open_(), "plum") == ["9", "0", "1"]
    assert await open_().delete_all(Message.query().full_scan().where(Message.channel == "b")) == 4
    assert await found(open_(), "plum fig") == ["9"]


async def test_a_search_is_read_beside_queries(stored: None, open_: Open) -> None:
    session = open_()
    search = Message.by_text.search("lisbon", where=Message.channel == "a", limit=5)
    messages, count = await session.read(search, Message.query().full_scan().count())
    assert ([one.id for one in messages], count) == (["2", "0"], 6)
    assert messages[0] is await session.get_one(Message, "2")
    assert search.explain().splitlines() == [
        "table   messages",
        "index   by_text (the words of text)",
        'words   what begins with "lisbon"',
        'filter  channel = "a"',
        "order   best first",
        "limit   5",
    ]


async def test_every_deployment_ranks_alike(deployment: Deployment) -> None:
    chance = random.Random(7)
    vocabulary = [
        "fig",
        "figs",
        "Lisbon",
        "tram",
        "trams",
        "Straße",
        "ΣΑΣ",
        "東京",
        "हिन्दी",
        "e\u0301té",
        "x" * 32,
        "a_b",
        "½",
    ]
    texts = [" ".join(chance.choices(vocabulary, k=chance.choice([0, 1, 3, 9, 60]))) for _ in range(80)]
    results = []
    for one in (deployment, connect("memory:")):
        with Session(one) as session:
            session.delete_all(Message.query().full_scan())
            session.add_all([Message(id=f"{n:02}", text=text, read=n % 3 == 0) for n, text in enumerate(texts)])
            session.commit()
            looked = [*vocabulary, "fig tram", "lisbon f", "t fi", "σασ e", "हि"]
            searches = [Message.by_text.search(text, limit=50) for text in looked if words_of(text)]
            searches += [Message.by_text.search("fig t", where=Message.read == True)]  # noqa: E712
            results.append([[message.id for message in messages] for messages in session.read(*searches)])
    assert results[0] == results[1]
    assert sum(map(len, results[0])) > 300


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        ("", {}, ValidationError),
        ("… - _ !", {}, ValidationError),
        ("x" * 32, {}, ValidationError),
        (7, {}, ValidationError),
        ("\ud800 fig", {}, ValidationError),
        ("a " * 17, {}, LimitExceeded),
        ("fig", {"limit": 0}, LimitExceeded),
        ("fig", {"limit": 1_025}, LimitExceeded),
        ("fig", {"limit": True}, ValidationError),
        ("fig", {"limit": 2.0}, ValidationError),
        ("fig", {"where": Message.text == "x"}, IndexRangeError),
        ("fig", {"where": Message.channel > "x"}, IndexRangeError),
        ("fig", {"where": (Message.channel == "x") | (Message.channel == "y")}, IndexRangeError),
        ("fig", {"where": Note.title == "x"}, ValidationError),
        ("fig", {"where": True}, ValidationError),
        ("fig", {"where": and_(*(Message.channel == str(n) for n in range(9)))}, LimitExceeded),
    ],
)
def test_what_cannot_be_looked_for_is_refused(text: Any, options: Any, error: type[ConvexORMError]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        with pytest.raises(error) as refused:
            session.search_text(Message.by_text, text, **options)
        assert "x" * 32 not in str(refused.value)


def test_only_a_search_index_is_searched() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        for index in (Message.by_message_id, SearchIndex("text"), "by_text", None):
            with pytest.raises(InvalidRequestError, match="search index"):
                session.search_text(index, "fig")  # type: ignore[arg-type]


def test_a_search_index_is_over_a_text() -> None:
    with pytest.raises(ValidationError, match=r"by_count.*'count', which is no text"):

        class _Counted(Model, table="counted"):
            count: Mapped[int]
            by_count = SearchIndex("count")

    with pytest.raises(ValidationError, match="names 'nothing'"):

        class _Other(Model, table="others"):
            text: Mapped[str]
            by_text = SearchIndex("nothing")

    with pytest.raises(LimitExceeded, match="search indexes: at most 4, got 5"):

        class _Five(Model, table="five"):
            text: Mapped[str]
            a, b, c, d, e = (SearchIndex("text", name=f"by_{n}") for n in range(5))

    with pytest.raises(ValidationError, match="filter_fields"):
        SearchIndex("text", filter_fields="channel")  # type: ignore[arg-type]


def test_an_index_is_built_over_the_documents_that_are_there(tmp_path: Path) -> None:
    class Before(Model, table="letters"):
        text: Mapped[str]

    class Letter(Model, table="letters"):
        text: Mapped[str]
        by_text = SearchIndex("text")

    with connect(f"sqlite:///{tmp_path}/letters.db") as deployment, Session(deployment) as session:
        session.add_all([Before(text=f"letter {n}") for n in range(1_200)])
        session.commit()
        with Session(deployment) as other:
            assert [one.text for one in other.search_text(Letter.by_text, "1111")] == ["letter 1111"]
        session.add(Before(text="the last letter"))  # by who declares no index
        session.commit()
        with Session(deployment) as other:
            assert [one.text for one in other.search_text(Letter.by_text, "last")] == ["the last letter"]
            assert len(other.search_text(Letter.by_text, "letter", limit=1_024)) == 1_024


def test_a_file_of_the_format_before_has_no_texts_until_it_can_be_written(tmp_path: Path) -> None:
    class Letter(Model, table="letters"):
        text: Mapped[str]
        by_text = SearchIndex("text")

    with connect(f"sqlite:///{tmp_path}/letters.db") as deployment, Session(deployment) as session:
        session.add(Note(id="1"))
        session.commit()
    with closing(sqlite3.connect(tmp_path / "letters.db")) as connection:
        connection.executescript("DROP TABLE convexorm_texts; PRAGMA user_version = 3")
        connection.execute(
            "INSERT INTO convexorm_tables (number, name, indexes, vectors) VALUES (9, 'letters', '[]', '[]')"
        )
        connection.execute("CREATE TABLE t9 (tick INTEGER PRIMARY KEY, id TEXT, body TEXT)")
        connection.execute("INSERT INTO t9 VALUES (7, '00000000000007000900000000000000', ?)", ('{"text":"a fig"}',))
        connection.commit()
    with connect(f"sqlite:///{tmp_path}/letters.db?mode=ro") as deployment, Session(deployment) as session:
        assert session.get(Note, "1") is not None
        with pytest.raises(IndexRangeError, match="lacks this index, and can only be read"):
            session.search_text(Letter.by_text, "fig")
    with connect(f"sqlite:///{tmp_path}/letters.db") as deployment, Session(deployment) as session:
        assert session.get(Note, "1") is not None
        with closing(sqlite3.connect(tmp_path / "letters.db")) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'x%'")]
        assert names == []
        assert [one.text for one in session.search_text(Letter.by_text, "fig")] == ["a fig"]


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM convexorm_texts", "UPDATE convexorm_texts SET documents = 0", "UPDATE convexorm_texts SET form = '7'"],
)
def test_a_damaged_catalog_of_texts_is_a_damaged_file(tmp_path: Path, damage: str) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with connect(url) as deployment, Session(deployment) as session:
        session.add(Message(id="1", text="secret fig"))
        session.commit()
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute(damage)
        connection.commit()
    with connect(url) as deployment, Session(deployment) as session:
        with pytest.raises(DeploymentError) as refused:
            session.search_text(Message.by_text, "secret")
        assert "messages" in str(refused.value) or "a.db" in str(refused.value)
        assert "secret" not in repr(refused.value)


def test_a_search_reads_what_it_answers(models_host: Host) -> None:
    with connect(models_host.url, models_host.key) as deployment, Session(deployment) as session:
        session.delete_all(Message.query().full_scan())
        session.add_all([Message(id=str(n), text=f"fig {n}") for n in range(50)])
        session.commit()
        models_host.reset()
        assert len(session.search_text(Message.by_text, "fig", limit=7)) == 7
        metrics = models_host.metrics()
        assert (metrics["calls"], metrics["documentsRead"]) == (1, 7)


def test_a_search_is_watched_like_a_query() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Message(id="1", text="a long text about figs"), Message(id="2", text="plum")])
        session.commit()
        with deployment.watch(Message.by_text.search("fig")) as live:
            assert [one.id for one in live.next(timeout=20).items] == ["1"]
            session.update(Message, "2", {"text": "fig"})
            session.commit()
            assert [one.id for one in live.next(timeout=20).items] == ["2", "1"]
            session.delete_key(Message, "1")
            session.commit()
            assert [one.id for one in live.next(timeout=20).removed] == ["1"]
