"""Hooks, validators, and instances as dictionaries and JSON."""

from __future__ import annotations

import copy
import enum
import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from convexorm import (
    UNSET,
    AsyncSession,
    DeploymentError,
    Id,
    Index,
    Int64,
    InvalidRequestError,
    Mapped,
    Model,
    Related,
    RelatedList,
    Session,
    ValidationError,
    connect,
    field,
    relationship,
)
from convexorm.mapping.hooks import HOOKS
from tests.faces import FACES, open_session
from tests.test_conformance import Lossy

CALLS: list[str] = []


class Watched(Model, table="watched", primary_key="id"):
    id: Mapped[str]
    title: Mapped[str] = field(default="")
    changes: Mapped[int] = field(default=0)
    by_watched_id = Index("id")

    def before_insert(self) -> None:
        CALLS.append(f"before_insert {self.id}")
        self.changes = 1

    def before_update(self) -> None:
        CALLS.append(f"before_update {self.id}")
        self.changes += 1

    def before_delete(self) -> None:
        CALLS.append(f"before_delete {self.id}")

    def after_load(self) -> None:
        CALLS.append(f"after_load {self.id}")

    def after_commit(self) -> None:
        CALLS.append(f"after_commit {self.id}")


@pytest.fixture(autouse=True)
def calls() -> list[str]:
    CALLS.clear()
    return CALLS


@pytest.mark.parametrize("face", FACES)
async def test_hooks_are_called_at_the_turns_of_an_instances_life(face: str, calls: list[str]) -> None:
    deployment = connect("memory:")
    session = open_session(face, deployment)
    one, other = Watched(id="a"), Watched(id="b")
    await session.add(one)
    await session.upsert(other)
    assert calls == []
    await session.commit()
    assert calls == ["before_insert a", "before_insert b", "after_commit a", "after_commit b"]
    calls.clear()
    one.title = "changed"
    await session.delete(other)
    await session.commit()
    assert calls == ["before_delete b", "before_update a", "after_commit a"]
    calls.clear()
    await session.commit()
    assert calls == []
    again = open_session(face, deployment)
    found = await again.get_one(Watched, "a")
    assert (found.title, found.changes) == ("changed", 2)
    assert calls == ["after_load a"]
    await again.refresh(found)
    assert calls == ["after_load a", "after_load a"]


def test_what_a_hook_changes_elsewhere_is_written_too() -> None:
    class Pair(Model, table="pairs", primary_key="id"):
        id: Mapped[str]
        twin: Mapped[str] = field(default="")
        seen: Mapped[int] = field(default=0)
        by_pair_id = Index("id")

        def before_update(self) -> None:
            pairs[self.twin].seen += 1

    with connect("memory:") as deployment, Session(deployment) as session:
        pairs = {name: Pair(id=name, twin=twin) for name, twin in (("a", "b"), ("b", "a"))}
        session.add_all(pairs.values())
        session.commit()
        pairs["b"].seen = 10
        session.commit()
        with Session(deployment) as other:
            assert [one.seen for one in other.get_many(Pair, ["a", "b"]) if one] == [1, 11]  # each hook once
        assert session.dirty == []


class Shelf(Model, table="shelves", primary_key="id"):
    id: Mapped[str]
    by_shelf = Index("id")
    entries: RelatedList[Entry] = relationship("by_shelf_id")


class Box(Model, table="boxes"):
    label: Mapped[str]


class Entry(Model, table="entries", primary_key="id"):
    id: Mapped[str]
    shelf_id: Mapped[str | None] = field(default=None, references="Shelf")
    stamped: Mapped[int] = field(default=0)
    by_entry_id = Index("id")
    by_shelf_id = Index("shelf_id")
    box_id: Mapped[Id[Box] | None] = field(default=None)
    box: Related[Box | None] = relationship("box_id")

    def before_insert(self) -> None:
        CALLS.append(f"before_insert {self.id}")
        TURNS.get(f"before_insert {self.id}", int)()

    def before_update(self) -> None:
        CALLS.append(f"before_update {self.id}")
        self.stamped += 1
        TURNS.get(f"before_update {self.id}", int)()

    def before_delete(self) -> None:
        CALLS.append(f"before_delete {self.id}")
        TURNS.get(f"before_delete {self.id}", int)()


TURNS: dict[str, Callable[[], Any]] = {}


def test_what_hooks_add_change_and_delete_has_its_own_hooks_called(calls: list[str]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        TURNS.clear()
        kept, changed, doomed = [Entry(id=id_) for id_ in ("kept", "changed", "doomed")]
        session.add_all([kept, changed, doomed])
        session.commit()
        calls.clear()

        def doom() -> None:
            changed.stamped = 20
            session.delete(doomed)

        TURNS["before_insert new"] = lambda: setattr(kept, "stamped", 10)
        TURNS["before_update kept"] = lambda: session.add(Entry(id="newer"))
        TURNS["before_insert newer"] = doom
        TURNS["before_delete doomed"] = lambda: session.delete(changed)
        session.add(Entry(id="new"))
        session.commit()
        assert calls == [
            *("before_insert new", "before_update kept", "before_insert newer", "before_update changed"),
            *("before_delete doomed", "before_delete changed"),
        ]
        assert [one.id for one in session.all(Entry.query().by_index("by_entry_id"))] == ["kept", "new", "newer"]
        assert kept.stamped == 11


def test_what_a_hook_withdraws_has_no_hook_called(calls: list[str]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        TURNS.clear()
        other = Entry(id="other")
        TURNS["before_insert one"] = lambda: session.expunge(other)
        session.add_all([Entry(id="one"), other])
        session.commit()
        assert calls == ["before_insert one"]
        assert session.count(Entry.query().full_scan()) == 1


def test_hooks_without_end_are_refused_and_write_nothing() -> None:
    class Endless(Model, table="endless"):
        number: Mapped[int]

        def before_insert(self) -> None:
            session.add(Endless(number=self.number + 1))

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Endless(number=0))
        with pytest.raises(InvalidRequestError, match="without end"):
            session.commit()
        session.rollback()
        assert session.count(Endless.query().full_scan()) == 0


def test_what_follows_a_key_or_waits_for_one_has_its_hook_called(calls: list[str]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        TURNS.clear()
        shelf, entry = Shelf(id="old"), Entry(id="one")
        shelf.entries.append(entry)
        session.add(shelf)
        session.commit()
        calls.clear()
        shelf.id = "new"
        session.commit()
        assert calls == ["before_update one"]
        entry.box = Box(label="a")
        session.commit()
        assert calls == ["before_update one"] * 2
        found = Session(deployment).get_one(Entry, "one")
        assert (found.shelf_id, found.stamped, found.box_id is None) == ("new", 2, False)


def test_all_are_told_of_a_commit_whatever_the_hook_of_one_raises() -> None:
    told: list[str] = []

    class Told(Model, table="told"):
        name: Mapped[str]

        def after_commit(self) -> None:
            told.append(self.name)
            if self.name != "c":
                raise RuntimeError(self.name)

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Told(name=name) for name in "abc"])
        with pytest.raises(RuntimeError, match="a"):
            session.commit()
        assert told == ["a", "b", "c"]
        session.commit()
        assert (len(told), session.count(Told.query().full_scan())) == (3, 3)


def test_a_hook_that_refuses_writes_nothing_and_leaves_all_pending() -> None:
    class Refusing(Model, table="refusing"):
        text: Mapped[str]

        def before_insert(self) -> None:
            if self.text == "bad":
                raise RuntimeError("refused")

    with Session(connect("memory:")) as session:
        bad = Refusing(text="bad")
        session.add_all([Refusing(text="good"), bad])
        with pytest.raises(RuntimeError):
            session.commit()
        assert session.count(Refusing.query().full_scan()) == 0
        assert len(session.new) == 2
        bad.text = "mended"
        session.commit()
        assert session.count(Refusing.query().full_scan()) == 2


CHANGES: dict[str, Callable[[Session, Any], object]] = {
    "before_insert": lambda session, one: session.add(type(one)(text="b")),
    "before_update": lambda session, one: setattr(one, "text", "b"),
    "before_delete": lambda session, one: session.delete(one),
}


@pytest.mark.parametrize("hook", CHANGES)
def test_a_hook_that_is_called_before_a_commit_cannot_commit(hook: str) -> None:
    def commit(self: Any) -> None:
        if stored:
            session.commit()

    stored: list[Any] = []
    model: Any = type("Eager", (Model,), {"__annotations__": {"text": Mapped[str]}, hook: commit}, table="eager")
    with connect("memory:") as deployment, Session(deployment) as session:
        one = model(text="a")
        session.add(one)
        session.commit()
        stored.append(one)
        CHANGES[hook](session, one)
        with pytest.raises(InvalidRequestError, match="a hook that is called before a commit cannot commit"):
            session.commit()
        assert [each.text for each in Session(deployment).all(model.query().full_scan())] == ["a"]


def test_a_hook_that_would_have_to_be_awaited_is_refused_when_declared() -> None:
    with pytest.raises(ValidationError, match="plain method"):

        class Awaited(Model, table="awaited"):
            text: Mapped[str]

            async def before_insert(self) -> None: ...  # type: ignore[override]


def test_a_validator_that_would_have_to_be_awaited_is_refused_when_declared() -> None:
    async def check(*given: object) -> None: ...

    with pytest.raises(ValidationError, match="a validator waits for nothing"):
        field(validator=[attrs.validators.gt(0), check])
    with pytest.raises(ValidationError, match=r"awaited\.__validate__: a validator waits for nothing"):
        type("Awaited", (Model,), {"__validate__": check}, table="awaited")


@pytest.mark.parametrize(
    "hook",
    [
        *(classmethod, staticmethod, property, functools.partial, functools.cached_property),
        *(functools.partialmethod, functools.singledispatchmethod),
    ],
)
@pytest.mark.parametrize(("name", "what"), [("before_update", "a hook"), ("__validate__", "a validator")])
def test_a_hook_that_is_no_method_of_the_instance_is_refused_when_declared(hook: Any, name: str, what: str) -> None:
    def touch(*given: object) -> None: ...

    with pytest.raises(ValidationError, match=rf"touched\.{name}: {what} is called with the instance"):
        type("Touched", (Model,), {"__annotations__": {"text": str}, name: hook(touch)}, table="touched")


def test_a_hook_may_be_taken_away_and_a_column_be_called_as_one() -> None:
    class Plain(Watched, table="plain"):
        before_insert = None  # type: ignore[assignment]
        after_load: Mapped[str] = field(default="a column")  # type: ignore[assignment]

    with connect("memory:") as deployment, Session(deployment) as session:
        plain = Plain(id="a")
        session.add(plain)
        session.commit()
        assert (plain.changes, session.count(Plain.query().where(Plain.after_load == "a column").full_scan())) == (0, 1)


async def _awaited(*given: Any) -> None:
    raise AssertionError("nobody awaits it")


def _yields(*given: Any) -> Any:
    yield


async def _yields_awaited(*given: Any) -> Any:
    yield


class _Awaited:
    async def __call__(self, *given: Any) -> None: ...


POSTPONED = [_awaited, _yields, _yields_awaited, _Awaited()]


@pytest.mark.parametrize("postponed", POSTPONED)
def test_what_a_call_would_not_run_is_refused_when_declared(postponed: Any) -> None:
    for validator in (
        *(postponed, [postponed], functools.partial(postponed), attrs.validators.optional(postponed)),
        attrs.validators.deep_iterable(attrs.validators.and_(attrs.validators.gt(0), postponed)),
    ):
        with pytest.raises(ValidationError, match="a validator waits for nothing"):
            field(validator=validator)
    with pytest.raises(ValidationError, match="a factory waits for nothing"):
        field(factory=postponed)
    for name in ("before_insert", "__validate__"):
        with pytest.raises(ValidationError, match=rf"postponed\.{name}: .*plain method"):
            type("Postponed", (Model,), {name: postponed}, table="postponed")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("postponed", POSTPONED)
def test_what_a_call_has_not_run_is_refused(postponed: Any) -> None:
    def wrapped(*given: Any) -> Any:
        return postponed(*given)

    class Checked(Model, table="checked"):
        number: Mapped[int] = field(validator=[attrs.validators.gt(0), wrapped])

    class Whole(Model, table="whole"):
        number: Mapped[int] = field(default=1)
        __validate__ = wrapped

    class Hooked(Model, table="hooked"):
        number: Mapped[int] = field(default=1)
        before_insert = wrapped

    with pytest.raises(ValidationError, match=r"checked\.number: a validator waits for nothing"):
        Checked(number=1)
    with pytest.raises(ValidationError, match=r"whole\.__validate__: a validator waits for nothing"):
        Whole()
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Hooked())
        with pytest.raises(ValidationError, match=r"hooked\.before_insert: a hook waits for nothing"):
            session.commit()
        session.rollback()
        assert session.count(Hooked.query().full_scan()) == 0


# -- validators ------------------------------------------------------------------------------------------------------


class Range(Model, table="ranges", primary_key="id"):
    id: Mapped[str]
    low: Mapped[int] = field(default=0, validator=attrs.validators.ge(0))
    high: Mapped[int] = field(default=10)
    by_range_id = Index("id")

    def __validate__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


WAYS: dict[str, Callable[[Session, Range, dict[str, Any]], Any]] = {
    "constructor": lambda session, stored, values: session.add(Range(id="new", **values)),
    "attribute": lambda session, stored, values: _set(stored, values),
    "update": lambda session, stored, values: session.update(Range, "a", values),
    "bulk_upsert": lambda session, stored, values: session.bulk_upsert(Range, [{"id": "b"}, {"id": "c", **values}]),
    "from_dict": lambda session, stored, values: session.add(Range.from_dict({"id": "new", **values})),
    "merge": lambda session, stored, values: session.merge(_bent(Range(id="a"), values)),
    "upsert": lambda session, stored, values: session.upsert(_bent(Range(id="a"), values)),
}


def _set(instance: Range, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(instance, name, value)


def _bent(instance: Range, values: dict[str, Any]) -> Range:
    """An instance with values that its class would not let in."""
    instance.__dict__.update(values)
    return instance


@pytest.mark.parametrize("values", [{"low": -1, "high": 3}, {"low": 5, "high": 3}], ids=["a column's", "the class's"])
@pytest.mark.parametrize("way", WAYS)
def test_validators_run_whichever_way_values_come_in(way: str, values: dict[str, Any]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        stored = Range(id="a")
        session.add(stored)
        session.commit()
        with pytest.raises(ValidationError) as caught:
            _come_in(session, stored, way, values)
        assert caught.value.table == "ranges"
        with Session(deployment) as other:
            assert [(one.id, one.low, one.high) for one in other.all(Range.query().full_scan())] == [("a", 0, 10)]


def _come_in(session: Session, stored: Range, way: str, values: dict[str, Any]) -> None:
    WAYS[way](session, stored, values)
    session.commit()


@pytest.mark.parametrize("make", [Range, lambda **values: Range.from_dict(values)])
def test_a_constructor_runs_the_validators_of_columns_and_of_the_class(make: Callable[..., Range]) -> None:
    for wrong, words in (({"low": -1}, "ranges.low: "), ({"low": 5, "high": 3}, "ranges: low is above high")):
        with pytest.raises(ValidationError, match=words):
            make(id="a", **wrong)


class Heading(Model, table="headings", primary_key="id"):
    id: Mapped[str]
    title: Mapped[str] = field(default="")
    slug: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    by_heading = Index("id")

    def __validate__(self) -> None:
        self.title = self.title.strip()
        self.slug = self.title.lower()
        if hasattr(self, "tags"):
            self.tags.sort()


GIVEN: dict[str, Any] = {"title": " New ", "tags": ["b", "a"]}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("way", ["insert", "change", "update", "update_all", "bulk_upsert", "merge", "upsert"])
async def test_what_a_validator_sets_is_stored_with_what_it_has_seen(face: str, way: str) -> None:
    def given(heading: Heading) -> Heading:
        for name, value in GIVEN.items():
            setattr(heading, name, copy.copy(value))
        return heading

    deployment = connect("memory:")
    session = open_session(face, deployment)
    heading = Heading(id="a")
    if way == "insert":
        given(heading)
    await session.add(heading)
    await session.commit()
    if way == "change":
        given(heading)
    elif way == "update":
        await session.update(Heading, "a", GIVEN)
    elif way == "update_all":
        await session.update_all(Heading.query().full_scan(), GIVEN)
    elif way == "bulk_upsert":
        await session.bulk_upsert(Heading, [{"id": "a", **GIVEN}])
    elif way == "merge":
        await session.merge(given(Heading(id="a")))
    elif way == "upsert":
        await session.upsert(given(Heading(id="a")))
    await session.commit()
    assert session.dirty == []
    shown = {"id": "a", "title": "New", "slug": "new", "tags": ["a", "b"]}
    assert Session(deployment).get_one(Heading, "a").to_dict() == shown
    assert (await session.get_one(Heading, "a")).to_dict() == shown


def test_what_a_relation_is_to_set_is_not_looked_at_before() -> None:
    class Owner(Model, table="owners"):
        pass

    class Owned(Model, table="owned"):
        owner_id: Mapped[str] = field(references=Owner, default=UNSET)
        owner: Related[Owner] = relationship("owner_id")

        def __validate__(self) -> None:
            if len(self.owner_id) < 3:
                raise ValueError("a short id")

    with Session(connect("memory:")) as session:
        owned = Owned()
        owner = Owner()
        session.add(owner)
        session.commit()
        owned.owner = owner
        session.add(owned)
        session.commit()
        with pytest.raises(ValidationError, match="owned: a short id"):
            Owned(owner_id="x")


def test_what_a_validator_says_is_said_without_the_value() -> None:
    class Sized(Model, table="sized"):
        n1: Mapped[int] = field(default=20, validator=attrs.validators.ge(10))
        word: Mapped[str] = field(default="", validator=attrs.validators.matches_re("[a-z]*"))

    with pytest.raises(ValidationError, match=r"^sized\.n1: 'n1' must be >= 10: …$"):
        Sized(n1=1)
    with pytest.raises(ValidationError, match=r"^sized\.word: 'word' must match regex '\[a-z\]\*' \(… doesn't\)$"):
        Sized(word="No")


@pytest.mark.parametrize("value", [" ", "\n", "a", "no", "ut", "-"])
def test_what_a_validator_says_can_be_read_where_the_value_is_a_part_of_its_words(value: str) -> None:
    def not_blank(instance: object, attribute: object, value: str) -> None:
        raise ValueError("must-not-be\nblank, author: it needs text")

    class Named(Model, table="named"):
        name: Mapped[str] = field(validator=not_blank)

    with pytest.raises(ValidationError) as raised:
        Named(name=value)
    assert str(raised.value) == "named.name: must-not-be\nblank, author: it needs text"


def test_a_validator_that_takes_something_else_is_refused_when_it_is_declared() -> None:
    def not_blank(value: str) -> None:
        raise NotImplementedError

    for given in (not_blank, [attrs.validators.min_len(1), not_blank], lambda: None):
        with pytest.raises(ValidationError, match=r"called with the instance, the attribute and the value; .* takes"):
            field(validator=given)


def test_hooks_and_validators_of_mixins_go_on_by_super() -> None:
    told: list[str] = []

    class Plain:
        def before_insert(self) -> None:
            told.append("plain")

        def __validate__(self) -> None:
            told.append("plain's")

    class Stamped(Model):
        def before_insert(self) -> None:
            told.append("stamped")
            super().before_insert()

        def __validate__(self) -> None:
            told.append("stamped's")
            super().__validate__()

    class Kept(Model):
        def before_insert(self) -> None:
            told.append("kept")
            super().before_insert()

        def __validate__(self) -> None:
            told.append("kept's")
            super().__validate__()

    class Page(Stamped, Kept, table="pages"):
        text: Mapped[str]

    class Leaf(Kept, Plain, table="leaves"):
        text: Mapped[str]

    class Sheet(Model, Plain, table="sheets"):
        text: Mapped[str]

    with Session(connect("memory:")) as session:
        for model, names in ((Page, ["stamped", "kept"]), (Leaf, ["kept", "plain"]), (Sheet, ["plain"])):
            told.clear()
            session.add(model(text="x"))
            assert told == [f"{name}'s" for name in names]
            told.clear()
            session.commit()
            assert [one for one in told if "'" not in one] == names


def test_what_a_hook_goes_on_to_is_no_coroutine() -> None:
    class Plain:
        async def before_insert(self) -> None:
            raise NotImplementedError

    class Leaf(Model, Plain, table="leaves"):
        text: Mapped[str]

        def before_insert(self) -> None:  # type: ignore[override]
            super().before_insert()

    with Session(connect("memory:")) as session:
        session.add(Leaf(text="x"))
        with pytest.raises(ValidationError, match=r"leaves\.before_insert: a hook waits for nothing"):
            session.commit()


def test_all_hooks_end_in_nothing_to_be_done() -> None:
    class Plain(Model, table="plain"):
        text: Mapped[str]

    one = Plain(text="x")
    for name in (*HOOKS, "__validate__"):
        assert getattr(one, name)() is None
    assert Plain.__mapper__.hooks == {}
    assert not Plain.__mapper__.validated


def test_an_attribute_that_is_refused_stays_as_it_is() -> None:
    one = Range(id="a")
    with pytest.raises(ValidationError, match="low"):
        one.low = -5
    assert one.low == 0


def test_an_update_that_gives_too_little_for_the_class_to_decide_is_refused() -> None:
    with Session(connect("memory:")) as session, pytest.raises(InvalidRequestError, match="__validate__"):
        session.update(Range, "a", {"low": 5})


# -- dictionaries and JSON -------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"


class Sample(Model, table="samples"):
    at: Mapped[datetime]
    big: Mapped[Int64]
    raw: Mapped[bytes]
    color: Mapped[Color]
    tags: Mapped[set[str]] = field(factory=set)
    note: Mapped[str | None] = field(default=None)


def test_instances_go_to_dictionaries_and_json_and_back() -> None:
    one = Sample(at=datetime(2026, 1, 2, tzinfo=UTC), big=2**60, raw=b"\x00\xff", color=Color.RED, tags={"a", "b"})
    values = one.to_dict()
    assert values == {"at": one.at, "big": 2**60, "raw": b"\x00\xff", "color": Color.RED, "tags": {"a", "b"}, "note": None}
    values["tags"].add("c")
    assert one.tags == {"a", "b"}
    text = one.to_json()
    assert isinstance(json.loads(text), dict)
    with Session(connect("memory:")) as session:
        for again in (Sample.from_dict(one.to_dict()), Sample.from_json(text)):
            assert again.to_dict() == one.to_dict()
            session.add(again)
        session.commit()
        loaded = session.all(Sample.query().full_scan())
        assert [each.to_dict() for each in loaded] == [one.to_dict()] * 2


def test_none_is_none_in_json_whatever_the_default() -> None:
    class Maybe(Model, table="maybes"):
        plain: Mapped[int | None]
        told: Mapped[int | None] = field(default=5)
        null: Mapped[int | None] = field(default=5, none="null")
        either: Mapped[list[int] | None] = field(factory=list, none="either")

    empty = Maybe(plain=None, told=None, null=None, either=None)
    assert Maybe.from_json(empty.to_json()).to_dict() == empty.to_dict()
    assert Maybe.from_json('{"plain": 1}').to_dict() == Maybe(plain=1).to_dict()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"nobody": 1}', "{}", '{"at": "x", "big": 1, "raw": "", "color": "red"}', "\ud800"]
)
def test_json_that_is_no_instance_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="samples"):
        Sample.from_json(text)


async def test_a_commit_whose_answer_was_lost_is_told_of_once_it_is_known_to_be_applied(calls: list[str]) -> None:
    with connect("memory:") as deployment:
        port = Lossy(deployment.asynchronous)
        session = AsyncSession(deployment, _port=port)
        await session.add(Watched(id="a"))
        with pytest.raises(DeploymentError):
            await session.commit()
        assert calls == ["before_insert a"]
        await session.commit()
        assert calls == ["before_insert a", "after_commit a"]
        port.losses = 1
        await session.transact(lambda session: session.add(Watched(id="b")))
        assert calls[2:] == ["before_insert b", "after_commit b"]
