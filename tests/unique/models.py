"""Models with unique indexes: of one field and of several, in a family of classes, and of any value."""

from __future__ import annotations

from typing import Any

from convexorm import Index, Mapped, Model, field

__all__ = ["MODELS", "Animal", "Cat", "Customer", "Dog", "Renamed", "Seat", "Thing", "Unaware"]


class Customer(Model, table="customers", primary_key="id"):
    id: Mapped[str]
    email: Mapped[str | None] = field(default=None)
    name: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    by_customer_id = Index("id")
    by_email = Index("email", unique=True)
    by_name = Index("name")


class Renamed(Model, table="renamed", primary_key="id"):
    """The customers by another name."""

    id: Mapped[str]
    email: Mapped[str | None] = field(default=None)
    name: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    by_customer_id = Index("id")
    by_email = Index("email", unique=True)


class Unaware(Model, table="unaware", primary_key="id"):
    """What somebody who knows of no unique email takes customers for."""

    id: Mapped[str]
    email: Mapped[str | None] = field(default=None)
    name: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    by_customer_id = Index("id")


class Seat(Model, table="seats"):
    """Known by its `_id`, and by where it is."""

    row: Mapped[str | None] = field(name="rowName", default=None)
    number: Mapped[int | None] = field(default=None)
    guest: Mapped[str] = field(default="")
    by_place = Index("row", "number", unique=True)


class Animal(Model, table="animals", primary_key="id", discriminator_field="kind"):
    id: Mapped[str]
    tag: Mapped[str | None] = field(default=None)
    by_animal_id = Index("id")
    by_tag = Index("tag", unique=True)


class Dog(Animal, discriminator="dog"):
    chip: Mapped[str | None] = field(default=None)
    by_chip = Index("kind", "chip", unique=True)


class Cat(Animal, discriminator="cat"):
    chip: Mapped[str | None] = field(default=None)


class Thing(Model, table="things", primary_key="key"):
    """Any value, and None in each of its forms."""

    key: Mapped[str]
    value: Mapped[Any] = field(optional=True, default=None)
    null: Mapped[str | None] = field(default=None, none="null")
    either: Mapped[str | None] = field(default=None, none="either")
    by_key = Index("key", unique=True)
    by_value = Index("value", unique=True)
    by_null = Index("null", unique=True)
    by_either = Index("either", unique=True)


MODELS: tuple[type[Model], ...] = (Customer, Seat, Animal, Thing)
