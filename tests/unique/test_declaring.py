"""How a unique index is declared, and where it shows."""

from __future__ import annotations

from typing import Any

import pytest

from convexorm import Index, Mapped, Model, Schema, ValidationError, VectorIndex, field, to_typescript
from tests.unique.models import Animal, Customer, Dog, Seat, Thing


def test_the_schema_says_to_people_what_is_unique() -> None:
    lines = to_typescript(Schema.of([Customer.__mapper__.table, Seat.__mapper__.table])).splitlines()
    said = [place for place, line in enumerate(lines) if line.strip().startswith("// unique")]
    assert [lines[place + 1].strip() for place in said] == [
        '.index("by_email", ["email"])',
        '.index("by_place", ["rowName", "number"]),',
    ]


def test_a_query_over_it_explains_so() -> None:
    by_email = Customer.query().by_index("by_email", email="a@x").explain()
    assert "index   by_email (email, _creationTime) unique\n" in by_email
    assert "unique" not in Customer.query().by_index("by_name", name="a").explain()
    assert repr(Customer.by_email) == "<Index by_email (email) unique>"


def test_the_primary_key_and_what_its_family_declares_are_unique() -> None:
    assert [one.name for one in Customer.__mapper__.unique_indexes] == ["by_customer_id", "by_email"]
    assert [one.name for one in Thing.__mapper__.unique_indexes] == ["by_key", "by_value", "by_null", "by_either"]
    assert [one.name for one in Animal.__mapper__.unique_indexes] == ["by_animal_id", "by_tag", "by_chip"]
    assert Animal.__mapper__.unique_indexes == Dog.__mapper__.unique_indexes


def test_what_is_no_declaration_is_refused() -> None:
    unknown: Any = "yes"
    with pytest.raises(ValidationError, match="unique is True or False"):
        Index("email", unique=unknown)
    with pytest.raises(ValidationError, match=r"Index\('embedding', unique=True\)"):
        VectorIndex("embedding", dimensions=3, unique=bool(unknown))  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="nope"):

        class Misnamed(Model, table="misnamed"):
            name: Mapped[str]
            by_name = Index("nope", unique=True)

    with pytest.raises(ValidationError, match="fields"):

        class Nothing(Model, table="nothing"):
            name: Mapped[str]
            by_name = Index(unique=True)


def test_classes_of_one_table_agree_on_what_is_unique() -> None:
    class Base(Model, table="bases", discriminator_field="kind"):
        name: Mapped[str] = field(default="")
        by_name = Index("name")

    with pytest.raises(ValidationError, match="declared twice"):

        class Sub(Base, discriminator="sub"):
            by_name = Index("name", unique=True)
