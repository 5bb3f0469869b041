"""Updates that say what they expect: written if it is so, refused whole if it is not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from convexorm import (
    Deployment,
    Index,
    InvalidRequestError,
    LimitExceeded,
    Mapped,
    Model,
    Session,
    StaleDataError,
    ValidationError,
    connect,
    field,
    func,
)
from tests.conftest import Host
from tests.models import Anything, Counter, Note, Task


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


def add(deployment: Deployment, id: str, **attributes: Any) -> None:
    with Session(deployment) as session:
        session.add(Note(id=id, **attributes))
        session.commit()


def title_of(deployment: Deployment, id: str) -> str:
    with Session(deployment) as session:
        note = session.get(Note, id)
        assert note is not None
        return note.title


def test_an_update_is_written_where_everything_expected_is_so(deployment: Deployment, unique: str) -> None:
    add(deployment, unique, title="old", body="b", tags=["x"])
    with Session(deployment) as session:
        expected = {"title": "old", "body": "b", "tags": ["x"], "meta": None}
        session.update(Note, unique, {"title": "new"}, expected=expected)
        session.commit()
    assert title_of(deployment, unique) == "new"


@pytest.mark.parametrize(
    ("expected", "field"),
    [({"title": "other"}, "title"), ({"title": "old", "body": ""}, "body"), ({"meta": {"a": 1}}, "meta")],
)
def test_an_update_that_expects_something_else_is_refused_with_the_whole_commit(
    deployment: Deployment, unique: str, expected: dict[str, Any], field: str
) -> None:
    add(deployment, unique, title="old", body="b")
    with Session(deployment) as session:
        session.add(Counter(name=unique))
        session.update(Note, unique, {"title": "new"}, expected=expected)
        with pytest.raises(StaleDataError) as caught:
            session.commit()
    assert (caught.value.reason, caught.value.write, list(caught.value.fields)) == ("changed", 1, [field])
    assert title_of(deployment, unique) == "old"
    with Session(deployment) as session:
        assert session.get(Counter, unique) is None


def test_an_expectation_of_a_document_that_is_gone(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        session.update(Note, unique, {"title": "new"}, expected={"title": "old"})
        with pytest.raises(StaleDataError) as caught:
            session.commit()
        assert caught.value.reason == "missing"
        session.rollback()
        session.update(Note, unique, {"title": "new"}, expected={"title": "old"}, missing_ok=True)
        session.commit()
        assert session.get(Note, unique) is None


def test_an_expectation_names_an_attribute_and_a_value_it_can_have() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        for expected in ({"titel": "x"}, {"title": None}):
            with pytest.raises(ValidationError):
                session.update(Note, "n", {"title": "new"}, expected=expected)


def test_an_update_larger_than_a_document_is_refused_with_both_sizes() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        with pytest.raises(LimitExceeded) as caught:
            session.update(Note, "n", {"body": "x" * (1 << 20)})
        assert (caught.value.maximum, (caught.value.actual or 0) > 1 << 20) == (1 << 20, True)


def test_none_finds_missing_fields_too_where_the_field_is_optional() -> None:
    class Before(Model, table="rows"):
        name: Mapped[str]
        by_name = Index("name")

    class After(Model, table="rows"):
        name: Mapped[str]
        owner: Mapped[str | None] = field(none="null", optional=True, default=None)
        by_name = Index("name")
        by_owner = Index("owner")

    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add(Before(name="missing"))
            session.commit()
        with Session(deployment) as session:
            session.add(After(name="null"))
            session.add(After(name="owned", owner="o"))
            session.commit()
            for query in (
                After.query().where(After.owner.is_(None)),
                After.query().by_index("by_owner", owner=None),
                After.query().by_index("by_name", After.name >= "").where(After.owner.in_([None])),
            ):
                assert {row.name for row in session.all(query)} == {"missing", "null"}
            assert [row.name for row in session.all(After.query().where(After.owner.is_not(None)))] == ["owned"]


def test_an_instance_is_added_only_where_a_query_finds_nothing(deployment: Deployment, unique: str) -> None:
    none_of_this_title = Note.query().by_index("by_title", title=unique)

    def add_once(id: str) -> None:
        with Session(deployment) as session:
            session.add(Note(id=id, title=unique), unique=none_of_this_title)
            session.commit()

    add_once(unique)
    with pytest.raises(StaleDataError) as caught:
        add_once(f"{unique}b")
    assert caught.value.reason == "exists"
    with Session(deployment) as session:
        assert [note.id for note in session.all(none_of_this_title)] == [unique]
        for query in (
            Note.query().full_scan(),
            none_of_this_title.where(Note.body == "b"),
            Note.query().where(Note.id > "a"),
        ):
            with pytest.raises(InvalidRequestError):
                session.add(Note(id=f"{unique}c"), unique=query)


def test_an_update_may_ask_to_leave_one_document_of_a_query(deployment: Deployment, unique: str) -> None:
    sole = Task.query().by_index("by_owner", owner_id=unique, done=False)
    with Session(deployment) as session:
        first, second = Task(text="first", owner_id=unique), Task(text="second", owner_id=unique, done=True)
        session.add_all([first, second])
        session.commit()
        keys = first.convex_id, second.convex_id
    with Session(deployment) as session:
        session.update(Task, keys[0], {"text": "still alone"}, unique=sole)
        session.commit()
        session.update(Task, keys[1], {"done": False}, unique=sole)
        with pytest.raises(StaleDataError) as caught:
            session.commit()
        assert caught.value.reason == "exists"
        session.rollback()
        session.update(Task, keys[0], {"done": True})
        session.update(Task, keys[1], {"done": False}, unique=sole)
        session.commit()
        assert [one.text for one in session.all(sole)] == ["second"]


def test_the_greatest_of_what_is_stored_and_given_is_kept_without_reading(deployment: Deployment, unique: str) -> None:
    def put(count: int) -> None:
        with Session(deployment) as session:
            session.update(Counter, unique, {"count": func.greatest(Counter.count, count)})
            session.commit()

    def stored() -> int:
        with Session(deployment) as session:
            return session.get_one(Counter, unique).count

    with Session(deployment) as session:
        held = Counter(name=unique, count=5)
        session.add(held)
        session.commit()
        for count, expected in ((3, 5), (5, 5), (9, 9), (-1, 9)):
            put(count)
            assert stored() == expected
        session.update(Counter, unique, {"count": func.greatest(Counter.count, 7)})
        session.commit()
        assert session.get_one(Counter, unique) is held
        assert held.count == 9
    with Session(deployment) as session:
        session.upsert(Counter(name=unique, count=2), greatest=("count",))
        session.commit()
        assert stored() == 9
        session.upsert(Counter(name=f"{unique}new", count=2), greatest=("count",))
        session.upsert(Counter(name=unique, count=20), greatest=("count",))
        session.commit()
        assert stored() == 20
        assert session.get_one(Counter, f"{unique}new").count == 2


def test_the_greatest_is_by_the_order_of_convex_where_other_types_or_nothing_are_stored(
    deployment: Deployment, unique: str
) -> None:
    with Session(deployment) as session:
        for place, (old, new, kept) in enumerate([("text", 5, "text"), (5, "text", "text"), (None, 0, 0), ([1], {}, {})]):
            key = f"{unique}{place}"
            session.add(Anything(key=key, a=old, text="x"))
            session.commit()
            session.update(Anything, key, {"a": func.greatest(Anything.a, new), "b": func.greatest(Anything.b, 1)})
            session.commit()
            session.expunge_all()
            found = session.get_one(Anything, key)
            assert (found.a, found.b, found.text) == (kept, 1, "x")


def test_more_is_stored_than_nothing(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        for number, (stored, given, kept) in enumerate([("x", None, "x"), (None, "x", "x"), (None, None, None)]):
            session.add(Anything(key=f"{unique}{number}", text=stored, a=stored))
            session.commit()
            session.upsert(Anything(key=f"{unique}{number}", text=given, a=given), greatest=("text", "a"))
            session.commit()
            session.expunge_all()
            found = session.get_one(Anything, f"{unique}{number}")
            assert (found.text, found.a) == (kept, kept)
        with pytest.raises(ValidationError, match="got None"):
            session.update(Anything, f"{unique}0", {"text": func.greatest(Anything.text, None)})


def test_an_attribute_is_given_once() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        with pytest.raises(ValidationError, match="given twice"):
            session.update(Counter, "a", {"count": 1, Counter.count: Counter.count + 1})
        with pytest.raises(ValidationError, match="given twice"):
            session.update_all(Counter.query().full_scan(), {Counter.count: 2, "count": 1})


def test_the_greatest_is_of_the_attribute_it_is_set_on() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        with pytest.raises(InvalidRequestError, match="count"):
            session.update(Counter, "a", {"count": func.greatest(Anything.a, 1)})
        with pytest.raises(ValidationError):
            session.update(Counter, "a", {"count": func.greatest(Counter.count, cast("Any", "1"))})


def test_an_error_about_one_of_several_says_which(deployment: Deployment, unique: str) -> None:
    wrongs: list[tuple[dict[str, Any], type[ValidationError | LimitExceeded]]] = [
        ({"title": 5}, ValidationError),
        ({"title": "\ud800"}, ValidationError),
        ({"body": "x" * (1 << 20)}, LimitExceeded),
    ]
    for wrong, error in wrongs:
        rows: list[dict[str, Any]] = [{"id": f"{unique}{number}", **(wrong if number == 2 else {})} for number in range(4)]
        with Session(deployment) as session:
            notes = [Note(**row) for row in rows]
            session.add_all(notes)
            with pytest.raises(error) as refused:
                session.commit()
            assert refused.value.instance is notes[2]
            session.rollback()
            with pytest.raises(error) as refused:
                session.bulk_upsert(Note, rows)
            assert (refused.value.row, refused.value.__notes__) == (2, ["row 2 of those given, the first being row 0"])
            assert session.get(Note, f"{unique}0") is None


def test_an_error_about_one_of_several_changes_says_which(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        notes = [Note(id=f"{unique}{number}") for number in range(3)]
        session.add_all(notes)
        session.commit()
        notes[0].title = "a"
        notes[1].title = 5  # type: ignore[assignment]
        with pytest.raises(ValidationError) as refused:
            session.commit()
        assert refused.value.instance is notes[1]
        session.rollback()
        session.add_all([Note(id=f"{unique}new"), clash := Note(id=f"{unique}1")])
        with pytest.raises(StaleDataError) as stale:
            session.commit()
        assert stale.value.instance is clash
