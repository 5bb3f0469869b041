"""What a session does about what is pending grows with how much there is, and no faster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from convexorm import Index, Mapped, Model, Related, RelatedList, Session, connect, field, relationship


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


def steps(work: Callable[[], object]) -> int:
    """How many lines are gone through, each round of a loop among them."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        seen += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen


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
