"""What a session does about what is pending grows with how much there is, and no faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convexorm import Index, Mapped, Model, Related, RelatedList, Session, connect, field, relationship
from tests.stepping import steps


class Shelf(Model, table="shelves", primary_key="id"):
    id: Mapped[str]
    books: RelatedList[Book] = relationship("by_shelf")
    by_shelf_id = Index("id")


class Book(Model, table="books", primary_key="id"):
    id: Mapped[str]
    shelf_id: Mapped[str | None] = field(references=Shelf, default=None)
    shelf: Related[Shelf | None] = relationship("shelf_id")
    by_book_id = Index("id")
    by_shelf = Index("shelf_id")


def delete(session: Session, shelf: Shelf) -> None:
    for book in list(shelf.books):
        session.delete(book)
    session.commit()


def remove(session: Session, shelf: Shelf) -> None:
    for book in list(shelf.books):
        shelf.books.remove(book)
    session.commit()


def append(session: Session, shelf: Shelf) -> None:
    for number in range(len(shelf.books)):
        shelf.books.append(Book(id=f"new {number}"))
    session.commit()


def replace(session: Session, shelf: Shelf) -> None:
    shelf.books = [Book(id=f"new {number}") for number in range(len(shelf.books))]
    session.commit()


@pytest.mark.parametrize("change", [delete, remove, append, replace])
def test_changing_many_documents_of_a_list_takes_no_more_steps_for_each(change: Callable[[Session, Shelf], None]) -> None:
    taken = []
    for size in (40, 80, 160):
        with connect("memory:") as deployment, Session(deployment) as session:
            shelf = Shelf(id="s")
            session.add_all([shelf, *(Book(id=f"{number}", shelf_id="s") for number in range(size))])
            session.commit()
            session.load(shelf, Shelf.books)
            assert len(shelf.books) == size
            taken.append(steps(lambda: change(session, shelf)))  # noqa: B023
    assert taken[2] - taken[1] < 2.3 * (taken[1] - taken[0])


class Genre(Model, table="genres", primary_key="id"):
    id: Mapped[str]
    novels: RelatedList[Novel] = relationship(through="NovelGenre")
    by_genre_id = Index("id")


class Novel(Model, table="novels", primary_key="id"):
    id: Mapped[str]
    genres: RelatedList[Genre] = relationship(through="NovelGenre", on_delete="cascade")
    by_novel_id = Index("id")


class NovelGenre(Model, table="novel_genres"):
    novel_id: Mapped[str] = field(references=Novel)
    genre_id: Mapped[str] = field(references=Genre)
    by_novel = Index("novel_id")
    by_genre = Index("genre_id")


def delete_one_side(session: Session, novels: list[Novel], genres: list[Genre]) -> None:
    for genre in genres:
        session.delete(genre)
    session.commit()


def delete_one_side_by_key(session: Session, novels: list[Novel], genres: list[Genre]) -> None:
    for novel in novels:
        session.delete_key(Novel, novel.id)
    session.commit()


def delete_one_side_by_range(session: Session, novels: list[Novel], genres: list[Genre]) -> None:
    session.delete_range(Genre.query().full_scan())
    session.commit()


def upsert_one_side(session: Session, novels: list[Novel], genres: list[Genre]) -> None:
    for genre in genres:
        session.upsert(Genre(id=genre.id))
    session.commit()


def load_after_an_upsert(session: Session, novels: list[Novel], genres: list[Genre]) -> None:
    for genre in genres:
        session.upsert(Genre(id=genre.id))
    session.expunge_all()
    for genre in genres:
        session.upsert(Genre(id=genre.id))
    session.all(Novel.query().full_scan().load(Novel.genres))


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize(
    "change",
    [delete_one_side, delete_one_side_by_key, delete_one_side_by_range, upsert_one_side, load_after_an_upsert],
)
def test_changing_many_documents_that_rows_lead_to_takes_no_more_steps_for_each(
    change: Callable[[Session, list[Novel], list[Genre]], None], *, loaded: bool
) -> None:
    taken = []
    for size in (20, 40, 80):
        with connect("memory:") as deployment, Session(deployment) as session:
            novels, genres = [Novel(id=f"{n}") for n in range(size)], [Genre(id=f"{n}") for n in range(size)]
            session.add_all([*novels, *genres, *(NovelGenre(novel_id=f"{n}", genre_id=f"{n}") for n in range(size))])
            session.commit()
            if loaded:
                session.load(novels, Novel.genres)
                session.load(genres, Genre.novels)
            taken.append(steps(lambda: change(session, novels, genres)))  # noqa: B023
    assert taken[2] - taken[1] < 2.3 * (taken[1] - taken[0])


class Leaflet(Model, table="leaflets", primary_key="id"):
    """A book that says where it is, and refers to nothing."""

    id: Mapped[str]
    shelf_id: Mapped[str | None] = field(default=None)
    by_leaflet_id = Index("id")


def test_a_reference_by_key_is_not_looked_up_where_nothing_is_known_of_its_table() -> None:
    def taken(model: type[Book | Leaflet]) -> int:
        with connect("memory:") as deployment, Session(deployment) as session:
            new = [model(id=f"{number}", shelf_id=f"s{number}") for number in range(100)]

            def add() -> None:
                for one in new:
                    session.add(one)
                session.commit()

            return steps(add)

    assert taken(Book) < 1.7 * taken(Leaflet)
