"""Declaring entities, making instances, and the mistakes one can make with either."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import pickle
import threading
import types
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Self

import attrs
import pytest

from convexorm import (
    Column,
    ConvexORMError,
    Id,
    Index,
    InvalidRequestError,
    IsoDatetime,
    LimitExceeded,
    Mapped,
    Model,
    Related,
    SearchIndex,
    Session,
    ValidationError,
    VectorIndex,
    connect,
    field,
    relationship,
)
from convexorm.deployments import EmbeddedDeployment
from convexorm.mapping.model import dump
from convexorm.schema import AnyOf, Array, Boolean, IndexDef, Null, Number, Property, String, VectorIndexDef
from convexorm.values import same
from tests.models import Anything, Chunk, Everything, Note, Task
from tests.test_types import everything

# -- what a declaration says ---------------------------------------------------------------------------------------


def test_a_model_declares_a_table_with_its_convex_field_names() -> None:
    assert Task.__mapper__.table.name == "tasks"
    assert dict(Task.__mapper__.table.fields) == {
        "text": Property(String()),
        "ownerId": Property(String()),
        "done": Property(Boolean()),
        "rank": Property(Number(), optional=True),
        "due": Property(Number(), optional=True),
    }


def test_indexes_are_named_by_their_attribute_and_hold_field_names() -> None:
    assert Task.__mapper__.table.indexes == (
        IndexDef("by_owner", ("ownerId", "done")),
        IndexDef("by_owner_and_due", ("ownerId", "due")),
        IndexDef("by_rank", ("rank",)),
    )
    assert Chunk.__mapper__.table.vector_indexes == (VectorIndexDef("by_embedding", "embedding", 3, ("kind",)),)
    assert Chunk.__mapper__.table.fields["embedding"] == Property(Array(Number()), optional=True)


def test_none_is_declared_the_way_it_is_stored() -> None:
    fields = Everything.__mapper__.table.fields
    assert fields["absent"] == Property(String(), optional=True)
    assert fields["null"] == Property(AnyOf((String(), Null())))
    assert fields["either"] == Property(AnyOf((String(), Null())), optional=True)


def test_the_primary_key_is_got_through_its_own_index() -> None:
    assert (Note.__mapper__.primary_key, Note.__mapper__.primary_index) == ("id", "by_note_id")
    assert (Task.__mapper__.primary_key, Task.__mapper__.primary_index) == (None, "by_id")


def test_a_class_attribute_is_a_column_and_an_instance_attribute_its_value() -> None:
    assert isinstance(Task.owner_id, Column)
    assert Task.owner_id.field == "ownerId"
    assert Task(text="x", owner_id="u").owner_id == "u"


def test_a_mixin_passes_its_columns_and_indexes_on() -> None:
    class Named(Model):
        name: Mapped[str]
        by_name = Index("name")

    class Person(Named, table="persons"):
        age: Mapped[int]

    assert list(Person.__mapper__.table.fields) == ["name", "age"]
    assert Person.__mapper__.table.indexes == (IndexDef("by_name", ("name",)),)
    with pytest.raises(TypeError, match="not mapped"):
        Named(name="x")


def test_a_plain_annotation_is_a_column_too_and_class_variables_are_none() -> None:
    class Plain(Model, table="plains"):
        text: str
        maximum: ClassVar[int] = 3
        _hidden: int = 0

    assert list(Plain.__mapper__.table.fields) == ["text"]


def test_public_methods_of_models_have_docstrings() -> None:
    assert inspect.getdoc(Model.query)


# -- mistakes in a declaration -------------------------------------------------------------------------------------


def declare(body: dict[str, Any], **options: Any) -> type[Model]:
    """A model with the annotations and attributes of `body`."""
    annotations = {name: value[0] for name, value in body.items() if isinstance(value, tuple)}
    values = {name: value[1] for name, value in body.items() if isinstance(value, tuple) and len(value) > 1}
    rest = {name: value for name, value in body.items() if not isinstance(value, tuple)}
    namespace = {"__annotations__": annotations, "__module__": __name__, **values, **rest}
    made = types.new_class("Wrong", (Model,), {"table": "wrong", **options}, lambda body: body.update(namespace))
    assert issubclass(made, Model)
    return made


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an index over an unknown attribute": ({"a": (str,), "by_b": Index("b")}, {}, "names 'b'; the attributes are a"),
    "an index over nothing": ({"a": (str,), "by_a": Index()}, {}, "0 fields"),
    "an index over one field twice": ({"a": (str,), "by_a": Index("a", "a")}, {}, "different ones"),
    "an index over 17 fields": (
        {**{f"a{n}": (str,) for n in range(17)}, "by_all": Index(*(f"a{n}" for n in range(17)))},
        {},
        "1 to 16",
    ),
    "an index with a name Convex has": ({"a": (str,), "by_id": Index("a")}, {}, "cannot name an index"),
    "a vector index of one dimension": (
        {"a": (list[float],), "by_a": VectorIndex("a", dimensions=1)},
        {},
        "2 to 4,096",
    ),
    "a vector index over an unknown attribute": (
        {"a": (list[float],), "by_a": VectorIndex("b", dimensions=3)},
        {},
        "names 'b'",
    ),
    "a table with a bad name": ({"a": (str,)}, {"table": "no-dash"}, "a table's name"),
    "a field with a bad name": ({"a": (str, field(name="$a"))}, {}, "a field's name"),
    "a field of the system": ({"a": (str, field(name="_id"))}, {}, "a field's name"),
    "two attributes of one field": ({"a": (str,), "b": (str, field(name="a"))}, {}, "two attributes"),
    "a keyword": ({"class": (str,)}, {}, r"no name of an attribute in Python; .*field\(name='class'\)"),
    "no identifier": ({"a b": (str,)}, {}, "no name of an attribute in Python"),
    "an attribute every model has": ({"query": (str,)}, {}, "every model has"),
    "a default that all would share": ({"a": (list[str], [])}, {}, "share this list.*factory="),
    "the same in field()": ({"a": (dict[str, int], field(default={}))}, {}, "share this dict.*factory="),
    "an unknown primary key": ({"a": (str,)}, {"primary_key": "id"}, "the attributes are a"),
    "a primary key without an index": ({"a": (str,)}, {"primary_key": "a"}, "needs an index"),
    "a primary key in a wider index only": (
        {"a": (str,), "b": (str,), "by_a": Index("a", "b")},
        {"primary_key": "a"},
        "needs an index on that field alone",
    ),
    "a table that is no text": ({"a": (str,)}, {"table": 5}, "a table is a str, got int"),
    "a primary key that is no name": ({"a": (str,)}, {"primary_key": 5}, "a primary_key is an attribute's name"),
    "a type without a Convex form": ({"a": (Mapped[complex],)}, {}, "no Convex type for complex; store two floats$"),
    "what may be no column": (
        {"a": (complex,)},
        {},
        r"no Convex type for complex; .*; or write ClassVar\[...\] if it is no column",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_declaration_is_refused(name: str) -> None:
    body, options, words = WRONG[name]
    with pytest.raises(ValidationError, match=words):
        declare(body, **options)


def test_more_indexes_than_convex_allows_are_refused() -> None:
    body: dict[str, Any] = {"a": (str,), **{f"by_{n}": Index("a") for n in range(65)}}
    with pytest.raises(LimitExceeded) as refused:
        declare(body)
    assert (refused.value.maximum, refused.value.actual) == (64, 65)


# -- instances -----------------------------------------------------------------------------------------------------


def test_defaults_and_factories_fill_what_is_not_given() -> None:
    one, two = Note(id="1"), Note(id="2")
    assert (one.title, one.tags, one.meta) == ("", [], None)
    assert one.tags is not two.tags


@dataclasses.dataclass(eq=False)
class Options:
    level: int = 0


def test_no_two_instances_share_a_default_that_can_be_changed() -> None:
    class Tuned(Model, table="tuned"):
        options: Mapped[Options] = field(default=Options(1))
        pairs: Mapped[tuple[list[int], ...]] = ([],)  # type: ignore[assignment]

    one, two = Tuned(), Tuned()
    one.options.level = 9
    one.pairs[0].append(9)
    assert (two.options.level, two.pairs, Tuned().options.level) == (1, ([],), 1)
    with Session(connect("memory:")) as session:
        session.add(two)
        session.commit()


def test_no_default_is_made_for_an_instance_that_is_not() -> None:
    class Numbered(Model, table="numbered"):
        number: Mapped[int] = field(factory=lambda: next(numbers))
        name: Mapped[str]

    numbers = itertools.count(1)
    maker: Any = Numbered
    for values in ({}, {"number": 1}, {"name": "a", "other": 1}):
        with pytest.raises((ValidationError, TypeError)):
            maker(**values)
    assert [Numbered(name="a").number, Numbered(name="b", number=7).number, Numbered(name="c").number] == [1, 7, 2]


def test_what_names_a_class_that_comes_later_can_be_made_before() -> None:
    class Earlier(Model, table="earlier"):
        place: Mapped[Later | None] = field(default=None)
        at: Mapped[IsoDatetime | None] = field(default=None)

    assert (Earlier().place, Earlier(place=None).place) == (None, None)

    @dataclasses.dataclass
    class Later:
        x: int

    assert Earlier(place=Later(1)).place == Later(1)


def test_an_instance_that_was_not_made_says_what_is_missing() -> None:
    class Hasty(Model, table="hasty"):
        text: Mapped[str] = field(default="")

        def __init__(self, text: str | None = None) -> None:
            if text is not None:
                self.text = text

    decorated: Any = dataclasses.dataclass(declare({"a": (int,)}))
    with Session(connect("memory:")) as session:
        made: list[Callable[[], object]] = [
            lambda: Hasty("x"),
            lambda: session.add(Hasty()),
            lambda: session.merge(Hasty()),
            lambda: session.refresh(Hasty()),
            lambda: session.expire(Hasty()),
            lambda: copy.copy(Hasty()),
            lambda: copy.deepcopy(Hasty()),
            lambda: pickle.dumps(Hasty()),
            lambda: decorated(a=1),
        ]
        for make in made:
            with pytest.raises(InvalidRequestError, match=r"is not made yet; call super\(\).__init__"):
                make()
    hasty = Hasty()
    assert (repr(hasty), hasty.convex_id, hasty.convex_created_at) == ("<Hasty (not made)>", None, None)
    assert not hasattr(hasty, "text")
    with pytest.raises(AttributeError, match=r"^Hasty.text is not set: this Hasty is not made yet; call super\(\)"):
        hasty.text  # noqa: B018


@pytest.mark.parametrize("validator", [None, attrs.validators.gt(0)])
def test_an_attribute_that_was_deleted_is_missed_by_the_commit(validator: Any) -> None:
    class Counted(Model, table="counted"):
        name: Mapped[str]
        number: Mapped[int] = field(default=1, validator=validator)

    with Session(connect("memory:")) as session:
        counted = Counted(name="a")
        session.add(counted)
        del counted.number
        with pytest.raises(ValidationError, match=r"^counted.number: required, and not set"):
            session.commit()
        counted.number = 2
        session.commit()
        del counted.number  # what is stored is shown again
        assert (counted.number, session.dirty) == (2, [])


def test_what_attrs_calls_around_a_constructor_is_called() -> None:
    class Step(Model, table="steps"):
        name: Mapped[str]
        log: Mapped[list[str]] = field(factory=list)

        def __attrs_pre_init__(self) -> None:
            calls.append("before")

        def __attrs_post_init__(self) -> None:
            self.log = [*self.log, self.name]

    calls: list[str] = []
    assert Step(name="a").log == ["a"]
    assert Step(name="b", log=["z"]).log == ["z", "b"]
    assert calls == ["before", "before"]


def test_a_constructor_of_the_class_may_set_what_is_no_column_before_and_after() -> None:
    class Step(Model, table="steps"):
        name: Mapped[str]

        def __init__(self, name: str) -> None:
            self.seen: list[str] = []
            super().__init__(name=name)
            self.seen.append(self.name)

    assert Step("a").seen == ["a"]


class Logged:
    """A mixin that sees what is set."""

    names: ClassVar[list[str]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        self.names.append(name)
        super().__setattr__(name, value.strip() if isinstance(value, str) else value)


class Page(Logged, Model, table="pages"):
    text: Mapped[str] = field(validator=attrs.validators.max_len(3))


class Chapter(Page, discriminator="chapter"):
    title: Mapped[str] = field(default="")

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.title() if name == "title" else value)


@pytest.mark.parametrize("model", [Page, Chapter])
def test_what_a_class_does_when_an_attribute_is_set_is_done(model: type[Page]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        page = model(text="a")
        session.add(page)
        session.commit()
        Logged.names.clear()
        page.text = " b "
        if isinstance(page, Chapter):
            page.title = "the end"
        assert (page.text, session.dirty) == ("b", [page])
        assert Logged.names == (["text", "title"] if model is Chapter else ["text"])
        with pytest.raises(ValidationError, match=r"pages\.text"):
            page.text = "long"
        session.commit()
        stored = Session(deployment).one(model.query().full_scan()).to_dict()
        assert stored == {"text": "b", **({"title": "The End"} if model is Chapter else {})}


@pytest.mark.parametrize("name", ["_state", "_body", "_details", "_setters"])
def test_what_models_need_for_themselves_is_not_called_so_by_others(name: str) -> None:
    mixin = type("Mixin", (), {name: "x"})
    for bases, body in (((Model,), {name: "x"}), ((mixin, Model), {})):
        with pytest.raises(ValidationError, match=f"{name}: a name that every model needs for itself"):
            type("Taken", bases, body, table="taken")


def test_the_state_of_an_instance_is_not_set_by_others() -> None:
    class Door(Model, table="doors"):
        text: Mapped[str]

        def __init__(self, text: str) -> None:
            super().__init__(text=text)
            self._state = "open"  # type: ignore[assignment]

    with pytest.raises(AttributeError, match=r"^Door\._state is what sessions know of the instance"):
        Door("a")


def test_what_cannot_be_copied_is_named() -> None:
    with Session(connect("memory:")) as session:
        wrong = Note(id="a", title=threading.Lock())  # type: ignore[arg-type]
        for copied in (wrong.to_dict, lambda: copy.deepcopy(wrong), lambda: session.merge(wrong)):
            with pytest.raises(ValidationError, match=r"^notes\.title: this lock cannot be copied: it raises TypeError"):
                copied()
        deep: Any = []
        for _ in range(10_000):
            deep = [deep]
        with pytest.raises(ValidationError, match=r"^notes\.meta: this list cannot be copied: it raises RecursionError"):
            Note(id="b", meta=deep).to_dict()


def test_a_class_may_make_its_instances_itself() -> None:
    made: list[str] = []

    class Herb(Model, table="herbs", primary_key="name"):
        name: Mapped[str]
        by_herb = Index("name")

        def __new__(cls, **values: Any) -> Self:
            made.append(cls.__name__)
            return super().__new__(cls)

    class Mint(Herb, discriminator="mint"):
        def __new__(cls, **values: Any) -> Self:
            made.append("fresh")
            return super().__new__(cls)

    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all([Herb(name="a"), Mint(name="b")])
            session.commit()
        made.clear()
        with Session(deployment) as session:
            found = session.all(Herb.query().by_index("by_herb"))
            copy.copy(found[1])
        assert [(type(one), one.name) for one in found] == [(Herb, "a"), (Mint, "b")]
        assert made == ["Herb", "fresh", "Mint", "fresh", "Mint"]


def test_a_class_that_makes_no_new_instances_is_refused_before_one_is_taken_for_two_documents() -> None:
    class Only(Model, table="only", primary_key="name"):
        name: Mapped[str]
        by_only = Index("name")
        kept: ClassVar[dict[str, Any]] = {}

        def __new__(cls, **values: Any) -> Self:
            return cls.kept.setdefault("one", super().__new__(cls))  # type: ignore[no-any-return]

    with connect("memory:") as deployment, Session(deployment) as session:
        session.bulk_upsert(Only, [{"name": "b"}, {"name": "c"}])
        one = Only(name="a")
        session.add(one)
        session.commit()
        for refused in (
            lambda: copy.copy(one),
            lambda: copy.deepcopy(one),
            lambda: session.get(Only, "b"),
            lambda: Session(deployment).all(Only.query().full_scan()),
        ):
            with pytest.raises(InvalidRequestError, match=r"Only\.__new__ does not make a new instance"):
                refused()
        assert (one.name, session.dirty) == ("a", [])


def test_a_class_that_cannot_be_made_without_more_is_refused_when_declared() -> None:
    with pytest.raises(ValidationError, match=r"Needy\.__new__ cannot be called with the class alone"):

        class Needy(Model, table="needy"):
            name: Mapped[str]

            def __new__(cls, *, name: str) -> Self:
                return super().__new__(cls)


def test_a_copy_asks_nothing_of_what_a_class_pickles() -> None:
    class Lean(Model, table="lean"):
        text: Mapped[str]

        def __getstate__(self) -> dict[str, Any]:
            return {"text": self.text}

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__init__(**state)  # type: ignore[misc]

        def _values(self) -> str:
            return "its own"

    lean = Lean(text="a")
    for twin in (copy.copy(lean), copy.deepcopy(lean)):
        assert (twin.text, repr(twin)) == ("a", "<Lean (transient)>")


def test_a_new_instance_has_no_system_fields_and_they_cannot_be_set() -> None:
    task = Task(text="x", owner_id="u")
    assert (task.convex_id, task.creation_time, task.primary_key) == (None, None, None)
    with pytest.raises(AttributeError, match="given by Convex"):
        task.convex_id = "x"
    assert repr(task) == "<Task (transient)>"


@pytest.mark.parametrize(
    ("values", "bad", "words"),
    [
        ({"text": "x"}, "owner_id", "required, and not given"),
        ({"text": "x", "owner_id": "u", "ownerId": "u"}, "ownerId", "the attributes are text, owner_id"),
        ({"text": "x", "owner_id": "u", "convex_id": "u"}, "convex_id", "no such attribute"),
        ({"text": "x", "owner_id": "u", "self": "u"}, "self", "no such attribute"),
        ({}, "text", "required"),
    ],
)
def test_a_constructor_names_what_is_unknown_or_missing(values: dict[str, Any], bad: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as refused:
        Task(**values)
    assert (refused.value.table, refused.value.field) == ("tasks", bad)


def test_validators_run_in_the_constructor_at_an_attribute_and_before_a_commit() -> None:
    class Rated(Model, table="rated"):
        stars: Mapped[int] = field(validator=attrs.validators.le(5))

        secret: Mapped[str] = field(default="ok", validator=attrs.validators.matches_re("ok.*"))

    with pytest.raises(ValidationError, match=r"rated\.stars: 'stars' must be <= 5: …"):
        Rated(stars=6)
    with pytest.raises(ValidationError, match="must match regex") as refused:
        Rated(stars=1, secret="it's hidden")
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None
    with Session(EmbeddedDeployment()) as session:
        rated = Rated(stars=5)
        session.add(rated)
        session.commit()
        with pytest.raises(ValidationError, match="stars"):
            rated.stars = 6
        assert rated.stars == 5
        rated.__dict__["stars"] = 6  # past the attribute
        rated._state.touch(rated)
        with pytest.raises(ValidationError, match="stars"):
            session.commit()
        assert session.count(Rated.query().full_scan()) == 1
        session.rollback()
        assert rated.stars == 5


def test_a_document_has_convex_names_and_only_what_is_there() -> None:
    assert dump(Task(text="x", owner_id="u")) == {"text": "x", "ownerId": "u", "done": False}
    assert dump(Anything(key="k"))["a"] is None


def test_every_kind_of_column_is_accepted_by_its_own_table() -> None:
    document = dump(everything(null="n"))
    Everything.__mapper__.table.check(document)
    assert same(document["labels"], ["a", "b", "c"])
    assert set(Everything.__mapper__.table.fields) - set(document) == {"absent", "either"}


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"text": None}, "text"),
        ({"at": datetime(2024, 1, 1)}, "at"),
        ({"whole": 1.5}, "whole"),
        ({"big": 2**64}, "big"),
        ({"text_json": {"a": object()}}, "textJson"),
    ],
)
def test_a_value_that_has_no_convex_form_is_refused_with_its_field_named(changes: dict[str, Any], bad: str) -> None:
    with pytest.raises(ValidationError) as refused:
        dump(everything(**changes))
    assert (refused.value.table, refused.value.field) == ("everything", bad)


def test_errors_are_one_tree_and_do_not_repeat_contents() -> None:
    with pytest.raises(ConvexORMError) as refused:
        Note.__mapper__.table.check({"id": "x", "title": 1, "body": "secret", "tags": []})
    assert "secret" not in str(refused.value)


def test_identity_never_goes_by_a_users_equality() -> None:
    class Equal(Model, table="equals"):
        numbers: Mapped[list[int]] = field(factory=list)

        def __eq__(self, other: object) -> bool:
            return True

    with Session(EmbeddedDeployment()) as session:
        one, two = Equal(numbers=[1]), Equal(numbers=[2])
        session.add_all([one, two])
        session.commit()
        for instance in (one, two):
            instance.numbers.append(3)
        assert [instance is one or instance is two for instance in session.dirty] == [True, True]
        session.commit()
        assert session.dirty == []
        session.expunge_all()
        assert [found.numbers for found in session.all(Equal.query().full_scan())] == [[1, 3], [2, 3]]


def _decorated_validator() -> None:
    class Wrong(Model, table="wrong"):
        n: Mapped[int] = field(default=1)

        @n.validator  # type: ignore[attr-defined, untyped-decorator]
        def check(self, attribute: object, value: int) -> None: ...


def _decorated_default() -> None:
    class Wrong(Model, table="wrong"):
        n: Mapped[int] = field()

        @n.default  # type: ignore[attr-defined, untyped-decorator]
        def one(self) -> int:
            return 1


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (_decorated_validator, r"told by field\(validator=...\), a function of the instance, attribute and value"),
        (_decorated_default, r"told by field\(default=...\), or made by field\(factory=...\)"),
    ],
)
def test_a_column_has_no_decorators(declare: Callable[[], None], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        declare()


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        (Index, Any),
        (SearchIndex, str),
        (lambda name: VectorIndex(name, dimensions=2), list[float]),
        (relationship, Id[Task]),
    ],
    ids=["index", "search index", "vector index", "relationship"],
)
@pytest.mark.parametrize("apart", [False, True])
def test_an_object_that_a_class_is_told_has_one_name(kind: Callable[[str], Any], of: Any, *, apart: bool) -> None:
    shared = kind("n")

    def declare(**body: Any) -> None:
        related = dict.fromkeys(body, Related[Task]) if kind is relationship else {}
        type("Wrong", (Model,), {"__annotations__": {"n": of, **related}, **body}, table="wrong")

    if apart:
        declare(one=shared)
    with pytest.raises(ValidationError, match=r"one object has two names, '(one|two)' and '(one|two)'; declare"):
        declare(**{} if apart else {"one": shared}, two=shared)


def test_an_index_of_its_own_name_may_be_shared() -> None:
    shared = Index("n", name="by_n")
    mixin: Any = type("Mixin", (), {"by_n": shared})
    first: Any = type("First", (mixin, Model), {"__annotations__": {"n": Any}}, table="first")
    second: Any = type("Second", (mixin, Model), {"__annotations__": {"n": Any}}, table="second")
    assert first.__mapper__.indexes["by_n"] is second.__mapper__.indexes["by_n"]
