"""Conditions on what texts and arrays contain, evaluated where the documents are."""

from __future__ import annotations

from typing import Any

import pytest

from convexorm import AsyncSession, Condition, ValidationError
from tests.models import Anything, Everything, Note

NOTES = [
    Note(id="n1", title="apple pie", body="ab", tags=["red", "sweet"], meta={"names": ["ada", "bob"]}),
    Note(id="n2", title="Apple", body="aXbXc", tags=[], meta={"names": "ada b"}),
    Note(id="n3", title="pineapple", body="100%", tags=["sweet and sour"]),
    Note(id="n4", title="", body="aab", tags=["ü"]),
]
CONDITIONS: dict[str, tuple[Condition, list[str]]] = {
    "contains a text": (Note.title.contains("apple"), ["n1", "n3"]),
    "contains nothing": (Note.title.contains(""), ["n1", "n2", "n3", "n4"]),
    "contains an element": (Note.tags.contains("sweet"), ["n1"]),
    "contains inside a value": (Note.meta["names"].contains("ada"), ["n1", "n2"]),
    "does not contain": (~Note.tags.contains("ü"), ["n1", "n2", "n3"]),
    "ends with": (Note.title.endswith("apple"), ["n3"]),
    "like a beginning": (Note.title.like("apple%"), ["n1"]),
    "like an end": (Note.title.like("%e"), ["n1", "n2", "n3"]),
    "like parts": (Note.body.like("a%b%"), ["n1", "n2", "n4"]),
    "like parts that do not overlap": (Note.body.like("ab%b"), []),
    "like without a sign": (Note.title.like("Apple"), ["n2"]),
    "like inside a value": (Note.meta["names"].like("a%b"), ["n2"]),
}


@pytest.mark.parametrize("name", CONDITIONS)
async def test_conditions_on_contents(session: AsyncSession, name: str) -> None:
    await session.add_all([Note.from_dict(note.to_dict()) for note in NOTES])
    await session.commit()
    condition, expected = CONDITIONS[name]
    found = await session.all(Note.query().full_scan().where(condition))
    assert [note.id for note in found] == expected


async def test_missing_and_null_have_words(session: AsyncSession) -> None:
    await session.add_all([Anything(key="missing"), Anything(key="there", a=1.0)])
    await session.commit()
    await session.update(Anything, "there", {"b": None})
    await session.commit()
    for condition, keys in (
        (Anything.a.is_missing(), []),
        (Anything.a.is_null(), ["missing"]),
        (Anything.text.is_missing(), ["missing", "there"]),
        (~Anything.text.is_missing(), []),
        (Anything.text.is_null(), []),
    ):
        found = await session.all(Anything.query().full_scan().where(condition))
        assert [one.key for one in found] == keys


def test_a_pattern_that_begins_with_a_text_is_a_range() -> None:
    read = Note.query().where(Note.title.like("app%")).plan()
    assert (read.range.index, read.filter) == ("by_title", None)
    assert Note.query().where(Note.title.like("app%e")).plan().range.index == "by_title"
    assert Note.query().where(Note.title.like("apple")).plan().range.eq == ("apple",)
    assert 'title like "%e"' in Note.query().full_scan().where(Note.title.like("%e")).explain()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Everything.number.contains(1.0),
        lambda: Everything.uuid.endswith("a"),
        lambda: Note.tags.endswith("a"),
        lambda: Note.tags.contains(5),
        lambda: Note.title.contains(5),
        lambda: Note.title.like(5),  # type: ignore[arg-type]
        lambda: Note.title.endswith(None),  # type: ignore[arg-type]
        lambda: Note.title.contains("\ud800"),
        lambda: Note.extra.contains("x"),
    ],
)
def test_what_contains_nothing_of_the_kind_cannot_be_asked(build: Any) -> None:
    with pytest.raises(ValidationError):
        build()
