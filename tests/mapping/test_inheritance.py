"""How classes are made of others: mixins, abstract bases, generics, and subclasses that share a table."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import attrs
import pytest

from convexorm import (
    Deployment,
    Index,
    Int64,
    InvalidRequestError,
    Mapped,
    Model,
    Schema,
    Session,
    StaleDataError,
    ValidationError,
    VectorIndex,
    compare,
    connect,
    field,
    to_typescript,
)
from convexorm.deployments import EmbeddedDeployment
from convexorm.mapping.model import dump
from convexorm.schema import AnyOf, Boolean, IndexDef, Number, Property, String
from convexorm.schema import Literal as LiteralValue
from tests.conftest import Host, serve_models
from tests.models import Anything

T = TypeVar("T")


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


# -- mixins, bases, generics ---------------------------------------------------------------------------------------


class Stamped:
    """No model: what it declares are columns of the models it is a base of."""

    created_by: Mapped[str] = field(default="nobody", validator=attrs.validators.min_len(2))
    by_creator = Index("created_by")

    def signed(self) -> str:
        return f"by {self.created_by}"


class Named(Model):
    name: Mapped[str] = field(default="")


class Boxed(Model, Generic[T]):
    item: Mapped[T]
    items: Mapped[list[T]] = field(factory=list)


class Both(Stamped, Named, table="both"):
    size: Mapped[float] = field(default=1.0)
    name = "unnamed"


class Numbers(Boxed[int], Stamped, table="numbers"):
    created_by: Mapped[str] = field(default="numbers", name="creator")


def test_columns_indexes_validators_and_methods_come_from_all_bases() -> None:
    assert list(Both.__mapper__.columns) == ["name", "created_by", "size"]
    assert Both.__mapper__.table.indexes == (IndexDef("by_creator", ("created_by",)),)
    both = Both()
    assert (both.name, both.created_by, both.signed()) == ("unnamed", "nobody", "by nobody")
    made: Any = Both
    with pytest.raises(ValidationError, match="created_by"):
        made(created_by="x")


def test_a_column_that_is_declared_anew_is_stored_in_the_same_field() -> None:
    class Owned(Model, table="owned_things"):
        owner_id: Mapped[str | None] = field(name="ownerId", default=None)

    class Kept(Owned, discriminator="kept"):
        owner_id: Mapped[str] = field(default="nobody")

    class Lent(Owned, discriminator="lent"):
        owner_id = field(default="somebody")

    class Other(Owned, table="others"):
        owner_id: Mapped[str] = field(name="owner_id")

    assert [one.__mapper__.columns["owner_id"].field for one in (Kept, Lent, Other)] == ["ownerId", "ownerId", "owner_id"]
    with Session(connect("memory:")) as session:
        session.add_all([Owned(owner_id="ada"), Kept(owner_id="ada"), Lent()])
        session.commit()
        found = session.all(Owned.query().where(Owned.owner_id == "ada").full_scan())
        assert [type(one) for one in found] == [Owned, Kept]


def test_a_generic_base_is_of_the_type_it_is_given() -> None:
    fields = Numbers.__mapper__.table.fields
    assert (fields["item"], fields["creator"]) == (Property(Number()), Property(String()))
    with connect("memory:") as deployment, Session(deployment) as session:
        one = Numbers(item=3, items=[4])
        session.add(one)
        session.commit()
        assert Session(deployment).get_one(Numbers, one.convex_id).items == [4]
        one.items.append("x")  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match=r"numbers\.items\[1\]: expected int, got str"):
            session.commit()


def test_a_vector_index_of_a_mixin_is_of_each_model_of_its_own() -> None:
    class Embedded(Model):
        embedding: Mapped[list[float]]
        by_embedding = VectorIndex("embedding", dimensions=2)

    class One(Embedded, table="ones"):
        pass

    class Two(Embedded, table="twos"):
        pass

    with EmbeddedDeployment() as deployment, Session(deployment) as session:
        session.add_all([One(embedding=[1.0, 0.0]), Two(embedding=[0.0, 1.0])])
        session.commit()
        assert [type(hit.item) for hit in session.search(One.by_embedding, [1.0, 1.0])] == [One]
        assert [type(hit.item) for hit in session.search(Two.by_embedding, [1.0, 1.0])] == [Two]


def test_a_base_that_keeps_its_defaults_to_itself_is_refused() -> None:
    @dataclasses.dataclass
    class Timed:
        seconds: float = 1.0

    @attrs.define(slots=False)
    class Sized:
        size: int = 3

    for bases, words in (((Timed, Model), "Timed is a dataclass"), ((Model, Sized), "Sized is an attrs class")):
        with pytest.raises(ValidationError, match=f"{words}.*plain class"):
            type("Mixed", bases, {}, table="mixed")


def test_what_hides_an_inherited_column_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"hiding\.name: hides a column that is inherited"):

        class Hiding(Named, table="hiding"):
            def name(self) -> str:  # type: ignore[misc, override]
                return "x"


def test_a_subclass_with_a_table_inherits_the_primary_key() -> None:
    class Keyed(Anything, table="keyed"):
        pass

    assert (Keyed.__mapper__.primary_key, Keyed.__mapper__.primary_index) == ("key", "by_key")
    with EmbeddedDeployment() as deployment, Session(deployment) as session:
        session.add_all([Keyed(key="k", a=1), Anything(key="k", a=2)])
        session.commit()
        assert Session(deployment).get_one(Keyed, "k").a == 1
        assert Session(deployment).get_one(Anything, "k").a == 2


# -- one table -----------------------------------------------------------------------------------------------------


class Animal(Model, table="animals", primary_key="name", discriminator_field="species"):
    name: Mapped[str]
    age: Mapped[int] = field(default=0)
    by_animal_name = Index("name")
    by_species = Index("species", "age")

    def sound(self) -> str:
        return ""


class Cat(Animal, discriminator="cat"):
    lives: Mapped[int] = field(default=9)
    by_lives = Index("lives")

    def sound(self) -> str:
        return "meow"


class Dog(Animal, discriminator="dog"):
    loud: Mapped[bool]
    born: Mapped[datetime | None] = field(default=None)
    age = 3


class Puppy(Dog, discriminator="puppy"):
    loud = True
    toys: Mapped[list[str]] = field(factory=list)


@pytest.fixture
def animals() -> Any:
    puppy: Any = Puppy
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all(
                [Animal(name="it", age=1), Cat(name="tom", age=5), Dog(name="rex", loud=True), puppy(name="pup")]
            )
            session.commit()
        yield deployment


def test_one_table_has_the_columns_and_indexes_of_all() -> None:
    table = Animal.__mapper__.table
    assert Puppy.__mapper__.table is table
    assert dict(table.fields)["lives"] == Property(Number(), optional=True)
    assert list(table.fields) == ["name", "age", "species", "lives", "loud", "born", "toys"]
    assert [index.name for index in table.indexes] == ["by_animal_name", "by_species", "by_lives"]
    text = to_typescript(Schema.of(model.__mapper__.table for model in (Animal, Cat, Dog, Puppy)))
    assert text.count("animals: defineTable") == 1


def test_documents_are_loaded_as_what_they_are(animals: Deployment) -> None:
    with Session(animals) as session:
        found = {one.name: type(one) for one in session.all(Animal.query().full_scan())}
        assert found == {"it": Animal, "tom": Cat, "rex": Dog, "pup": Puppy}
        assert [one.sound() for one in session.all(Animal.query().where(Animal.name == "tom"))] == ["meow"]
        assert session.get_one(Animal, "tom") is session.get_one(Cat, "tom")
        assert session.get(Cat, "rex") is None
        assert session.get_many(Dog, ["tom", "rex", "pup"])[0] is None
        assert isinstance(session.get(Dog, "pup"), Puppy)
        assert Dog(name="x", loud=False).age == 3


def test_a_query_of_a_subclass_finds_only_its_own(animals: Deployment) -> None:
    with Session(animals) as session:
        assert [one.name for one in session.all(Cat.query())] == ["tom"]
        assert {one.name for one in session.all(Dog.query())} == {"rex", "pup"}  # two kinds: two ranges of an index
        assert session.count(Animal.query().full_scan()) == 4
        assert session.count(Cat.query().by_index("by_animal_name", name="rex")) == 0
        assert session.count(Cat.query().by_index("by_lives", lives=9)) == 1
        session.delete_range(Cat.query())
        session.commit()
    assert Session(animals).count(Animal.query().full_scan()) == 3


def test_an_index_that_begins_with_the_discriminator_is_used() -> None:
    assert 'range   species = "cat"\n' in Cat.query().explain()
    assert 'range   species = "cat" and age >= 3' in Cat.query().where(Cat.age >= 3).explain()
    assert 'range   species = "cat" and age = 5' in Cat.query().by_index("by_species", age=5).explain()
    assert "filter  none" in Cat.query().by_index("by_species", age=5).explain()
    assert "filter  species in" in Dog.query().by_index("by_animal_name", name="x").explain()


def test_instances_are_written_as_their_class_and_change_as_any_other(animals: Deployment) -> None:
    assert dump(Cat(name="x"))["species"] == "cat"
    assert "species" not in dump(Animal(name="x"))
    with Session(animals) as session:
        pup = session.get_one(Puppy, "pup")
        pup.toys.append("ball")
        session.commit()
        assert session.dirty == []
    with Session(animals) as session:
        assert session.get_one(Puppy, "pup").toys == ["ball"]
        session.upsert(Cat(name="new", age=1))
        session.update(Cat, "tom", {"lives": 8})
        session.commit()
        assert {one.name for one in session.all(Cat.query())} == {"tom", "new"}


def test_a_write_to_another_kind_is_refused(animals: Deployment) -> None:
    writes: list[Callable[[Session], object]] = [
        lambda session: session.update(Cat, "rex", {"lives": 1}),
        lambda session: session.delete_key(Cat, "rex"),
        lambda session: session.update(Dog, "tom", {"loud": True}),  # it has subclasses itself
        lambda session: session.delete_key(Dog, "tom"),
    ]
    for write in writes:
        with Session(animals) as session:
            write(session)
            with pytest.raises(StaleDataError):
                session.commit()
    with Session(animals) as session:
        session.bulk_upsert(Cat, [{"name": "felix"}])
        assert isinstance(session.get(Animal, "felix"), Cat)


def test_a_document_of_a_class_that_is_not_there_is_not_taken_for_another(animals: Deployment) -> None:
    table = Animal.__mapper__.table
    from convexorm.faces import finish
    from convexorm.requests import Commit, Insert

    finish(animals.blocking.commit(Commit("1", [Insert(table, {"name": "z", "age": 1, "species": "zebra"})])))
    with (
        Session(animals) as session,
        pytest.raises(ValidationError, match=r"animals\.species of document \w{32}: no class is declared"),
    ):
        session.all(Animal.query().full_scan())


class Event(Model, table="events", discriminator_field="kind", discriminator="event"):
    kind: Mapped[str] = field(default="event")
    at: Mapped[float] = field(default=0.0)


class Click(Event, discriminator="click"):
    x: Mapped[int] = field(default=0)


class Key(Event, discriminator="key"):
    x: Mapped[str] = field(default="")
    kind: Mapped[Literal["key"]] = field(default="key")


def test_a_discriminator_may_be_a_column() -> None:
    assert (Event().kind, Click().kind, Key().kind) == ("event", "click", "key")
    assert Event.__mapper__.table.fields["x"] == Property(AnyOf((Number(), String())), optional=True)
    assert Event.__mapper__.table.fields["kind"] == Property(AnyOf((String(), LiteralValue("key"))))
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Event(), Click(x=3), Key(x="q")])
        session.commit()
        assert [one.x for one in Session(deployment).all(Key.query().full_scan())] == ["q"]
        for wrong in (Click(kind="key"), Event(kind="click")):
            session.add(wrong)
            with pytest.raises(ValidationError, match=r"events\.kind: .* is not of this kind"):
                session.commit()
            session.rollback()


class Case(Model, table="cases", primary_key="id", discriminator_field="kind"):
    id: Mapped[str]
    kind: Mapped[str] = field(default="open")
    by_case = Index("id")


class Closed(Case, discriminator="closed"):
    pass


class Sort(enum.StrEnum):
    EVENT = "event"
    CLICK = "click"


class Label(enum.Enum):
    EVENT = "event"
    CLICK = "click"


@pytest.mark.parametrize("sort", [Sort, Label])
def test_a_discriminator_may_be_a_column_of_an_enum(sort: Any) -> None:
    root: Any = type(
        "Root",
        (Model,),
        {"__annotations__": {"sort": Mapped[sort]}, "sort": field(default=sort.EVENT), "by_sort": Index("sort")},
        table="enums",
        discriminator_field="sort",
    )
    child = type("Child", (root,), {}, discriminator=Sort.CLICK)
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([root(), child()])
        session.commit()
        found = Session(deployment).all(root.query().by_index("by_sort", sort=sort.CLICK))
        assert [(type(one), one.sort) for one in found] == [(child, sort.CLICK)]
        assert type(child().sort) is sort


def test_a_member_of_a_str_enum_names_a_table_and_a_class() -> None:
    class Root(Model, table=Sort.EVENT):
        pass

    class Child(Root, discriminator=Sort.CLICK):
        pass

    assert (type(Root.__mapper__.name), type(Child.__mapper__.discriminator)) == (str, str)
    with Session(connect("memory:")) as session:
        session.add_all([Root(), Child()])
        session.commit()
        assert [type(one) for one in session.all(Child.query().full_scan())] == [Child]


@pytest.mark.parametrize(
    "change",
    [
        lambda session: setattr(session.get_one(Case, "a"), "kind", "closed"),
        lambda session: setattr(session.get_one(Case, "c"), "kind", "open"),
        lambda session: setattr(session.get_one(Case, "c"), "kind", "none that is declared"),
        lambda session: session.update(Closed, "c", {"kind": "open"}),
        lambda session: session.update(Case, "c", {"kind": "none that is declared"}),
        lambda session: session.update_all(Closed.query().where(Closed.id == "c"), {"kind": "open"}),
    ],
)
def test_no_change_makes_a_document_one_of_another_class(change: Callable[[Session], None]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Case(id="a"), Closed(id="c")])
        session.commit()

        def commit() -> None:
            change(session)
            session.commit()

        with pytest.raises(ValidationError, match=r"cases\.kind: a \w+ is not of this kind"):
            commit()
        assert [type(one) for one in Session(deployment).get_many(Case, ["a", "c"])] == [Case, Closed]


def test_a_kind_that_is_no_class_of_its_own_may_change() -> None:
    with Session(connect("memory:")) as session:
        case = Case(id="a")
        session.add(case)
        session.commit()
        case.kind = "none that is declared"
        session.commit()
        assert session.get(Case, "a") is case


def test_families_work_on_every_deployment(deployment: Deployment, unique: str) -> None:
    class Base(Model, table="anything", primary_key="key", discriminator_field="text"):
        key: Mapped[str]
        by_key = Index("key")

    class Left(Base, discriminator="left"):
        a: Mapped[int]

    class Right(Base, discriminator="right"):
        b: Mapped[bool]

    with Session(deployment) as session:
        session.add_all([Base(key=unique), Left(key=f"{unique}l", a=1), Right(key=f"{unique}r", b=True)])
        session.commit()
    with Session(deployment) as session:
        keys = [unique, f"{unique}l", f"{unique}r"]
        assert [type(one) for one in session.get_many(Base, keys)] == [Base, Left, Right]
        assert [one and one.a for one in session.get_many(Left, keys)] == [None, 1, None]
        assert session.count(Right.query().where(Right.key >= unique, Right.key <= f"{unique}z")) == 1


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: type("Bird", (Animal,), {}), "Bird is a subclass of Animal: give it a table.*or a place.*discriminator="),
        (lambda: type("Tom", (Animal,), {}, discriminator="cat"), "discriminator 'cat' is Cat's already"),
        (lambda: type("Lone", (Model,), {}, discriminator="x"), "Lone says what its documents are like, and no table"),
        (lambda: type("Bird", (Animal,), {}, discriminator="bird", primary_key="age"), "which says its key"),
        (lambda: type("Tap", (Key,), {}, discriminator="tap"), r"events\.kind: discriminator='tap' is no 'key'"),
        (
            lambda: type("Bird", (Animal,), {"__annotations__": {"age": Mapped[Int64]}}, discriminator="bird"),
            r"animals\.age: stored as an int64, and as a number by its parent, where a query of that looks for it",
        ),
        (
            lambda: type("Bird", (Animal,), {"age": field(name="years")}, discriminator="bird"),
            r"animals\.age: stored as 'age' by its parent",
        ),
        (lambda: type("Bird", (Animal,), {}, discriminator=3), "a discriminator is a str, got int"),
        (
            lambda: type("Bird", (Animal,), {"by_lives": Index("age")}, discriminator="bird"),
            "index 'by_lives' is declared twice, differently",
        ),
    ],
)
def test_a_subclass_that_cannot_be_stored_is_refused_when_it_is_declared(declare: Any, words: str) -> None:
    before = Animal.__mapper__.table
    with pytest.raises(ValidationError, match=words):
        declare()
    assert Animal.__mapper__.table == before


def test_a_column_that_happens_to_be_called_kind_is_no_discriminator() -> None:
    class Thing(Model, table="things"):
        kind: Mapped[bool]

    assert Thing.__mapper__.table.fields == {"kind": Property(Boolean())}
    with pytest.raises(ValidationError, match="declare Thing with discriminator_field='kind'"):
        type("Special", (Thing,), {}, discriminator="special")

    class Named(Model, table="named"):
        sort: Mapped[str] = field(name="kind", default="plain")

    with pytest.raises(ValidationError, match="declare Named with discriminator_field='kind'"):
        type("Special", (Named,), {}, discriminator="plain")


def test_a_discriminator_may_be_a_column_that_is_called_otherwise_in_convex() -> None:
    class Vessel(Model, table="vessels", primary_key="kind", discriminator_field="k"):
        kind: Mapped[str] = field(name="id")
        id: Mapped[str] = field(name="k", default="")
        by_kind = Index("kind")
        by_id_first = Index("id", "kind")

    class Jug(Vessel, discriminator="jug"):
        litres: Mapped[int] = field(name="l", default=1)

    class Cup(Vessel, discriminator="cup"):
        k: Mapped[str] = field(name="x", default="handle")

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Vessel(kind="1"), Jug(kind="2"), Cup(kind="3")])
        session.commit()
        with Session(deployment) as other:
            found = other.all(Vessel.query().by_index("by_kind"))
            assert [(type(one), one.id) for one in found] == [(Vessel, ""), (Jug, "jug"), (Cup, "cup")]
            assert [one.k for one in other.all(Cup.query().by_index("by_id_first"))] == ["handle"]
            found[1].id = "cup"
            with pytest.raises(ValidationError, match=r"vessels\.k: a Jug is not of this kind"):
                other.commit()


def test_classes_of_one_table_are_declared_freely_and_not_mixed_in_a_session() -> None:
    def declared() -> type[Any]:
        class Again(Model, table="again", primary_key="id"):
            id: Mapped[str]
            by_again_id = Index("id")

        return Again

    one, two = declared(), declared()
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add(one(id="a"))
            session.commit()
            for use in (
                lambda: session.get(two, "a"),
                lambda: session.all(two.query().full_scan()),
                lambda: session.update(two, "a", {}),
            ):
                with pytest.raises(InvalidRequestError, match=r"table 'again' as tests\.mapping\..*Again"):
                    use()
            session.add(two(id="b"))
            with pytest.raises(InvalidRequestError, match="another class"):
                session.commit()
        with Session(deployment) as session:
            assert session.get(two, "a") is not None


def test_a_subclass_declared_again_takes_the_place_of_the_one_before() -> None:
    class Root(Model, table="roots"):
        a: Mapped[str] = field(default="")

    def declared() -> type[Any]:
        class Leaf(Root, discriminator="leaf"):
            b: Mapped[str] = field(default="")

        return Leaf

    declared()
    again = declared()
    assert [mapper.model for mapper in Root.__mapper__.family()] == [Root, again]


# -- abstract classes with a table: unions of shapes -----------------------------------------------------------------


class Signal(Model, table="signals", discriminator_field="type", abstract=True):
    at: Mapped[float]
    by_type = Index("type", "at")


class Tap(Signal, discriminator="tap"):
    x: Mapped[float]
    code: Mapped[float | None] = field(default=None)


class Press(Signal, discriminator="press"):
    code: Mapped[str]
    by_code = Index("code")


def test_a_table_whose_class_is_abstract_is_a_union_of_its_subclasses() -> None:
    table = Signal.__mapper__.table
    written = " ".join(to_typescript(Schema.of([table])).split())
    assert (
        'signals: defineTable(v.union( v.object({ type: v.literal("tap"), at: v.number(), x: v.number(), '
        'code: v.optional(v.number()), }), v.object({ type: v.literal("press"), at: v.number(), code: v.string(), }), )) '
        '.index("by_type", ["type", "at"]) .index("by_code", ["code"]),'
    ) in written
    assert table.fields == {
        "type": Property(AnyOf.of(LiteralValue("tap"), LiteralValue("press"))),
        "at": Property(Number()),
        "x": Property(Number(), optional=True),
        "code": Property(AnyOf.of(Number(), String()), optional=True),
    }


@pytest.mark.parametrize("kind", ["memory", "host"])
def test_documents_of_a_union_are_of_their_classes(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        host = stack.enter_context(serve_models(tmp_path, Signal)) if kind == "host" else None
        deployment = stack.enter_context(connect("memory:") if host is None else host.connect())
        with Session(deployment) as session:
            session.add_all([Tap(at=1.0, x=2.0), Press(at=2.0, code="a"), Tap(at=3.0, x=4.0, code=7.0)])
            session.commit()
            session.add(Signal(at=9.0))
            with pytest.raises(ValidationError, match=r"Signal is abstract.*make one of Press, Tap"):
                session.commit()
        with Session(deployment) as session:
            found = session.all(Signal.query().by_index("by_type"))
            assert [(type(one), one.at) for one in found] == [(Press, 2.0), (Tap, 1.0), (Tap, 3.0)]
            assert [one.code for one in session.all(Tap.query().by_index("by_type").order("desc"))] == [7.0, None]
            (press,) = session.all(Press.query())
            press.code = "b"
            session.commit()
        with Session(deployment) as session:
            assert [one.code for one in session.all(Press.query().by_index("by_code", code="b"))] == ["b"]
            session.add(Press(at=5.0, code="c"))
            session.commit()
            assert session.count(Press.query().by_index("by_type", Press.at > 1.0)) == 2
        if kind == "host":
            assert list(compare([Signal], deployment)) == []


@pytest.mark.parametrize("options", [{"abstract": True}, {"table": "t", "discriminator": "x", "abstract": True}])
def test_only_a_class_with_a_table_and_no_documents_is_abstract(options: Any) -> None:
    with pytest.raises(ValidationError, match="cannot be abstract"):
        type("Wrong", (Model,), {}, **options)
