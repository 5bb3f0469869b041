"""A shop: every kind of reference and relation. `functions/schema.ts` is generated from it."""

from __future__ import annotations

from datetime import datetime

from convexorm import (
    UNSET,
    Counter,
    Id,
    Index,
    Mapped,
    Model,
    Related,
    RelatedList,
    Sum,
    VectorIndex,
    field,
    relationship,
)


class Customer(Model, table="customers", primary_key="id"):
    id: Mapped[str]
    country: Mapped[str] = field(default="NL")
    orders: RelatedList[Order] = relationship("by_customer", on_delete="cascade")
    dearest: RelatedList[Order] = relationship("by_total")
    by_customer_id = Index("id")
    by_country = Index("country")


class Order(Model, table="orders", primary_key="id"):
    id: Mapped[str]
    customer_id: Mapped[str] = field(references=Customer, default=UNSET)
    placed_at: Mapped[datetime]
    total: Mapped[int] = field(default=0)
    customer: Related[Customer] = relationship("customer_id")
    lines: RelatedList[Line] = relationship("by_order", on_delete="cascade")
    tags: RelatedList[Tag] = relationship(through="OrderTag", on_delete="cascade")
    payments: RelatedList[Payment] = relationship("by_order", on_delete="restrict")
    coupons: RelatedList[Coupon] = relationship("by_order", on_delete="nullify")
    by_order_id = Index("id")
    by_customer = Index("customer_id", "placed_at")
    by_total = Index("customer_id", "total")


class Line(Model, table="lines"):
    order_id: Mapped[str] = field(references="Order", default=UNSET)
    text: Mapped[str] = field(default="")
    order: Related[Order] = relationship("order_id")
    by_order = Index("order_id")


class Tag(Model, table="tags", primary_key="id"):
    id: Mapped[str]
    owner_id: Mapped[str | None] = field(references=Customer, default=None)
    owner: Related[Customer | None] = relationship("owner_id")
    orders: RelatedList[Order] = relationship(through="OrderTag")
    by_tag_id = Index("id")


class OrderTag(Model, table="order_tags"):
    order_id: Mapped[str] = field(references=Order)
    tag_id: Mapped[str] = field(references=Tag)
    rank: Mapped[int] = field(default=0)
    by_order = Index("order_id", "rank")
    by_tag = Index("tag_id")


class Payment(Model, table="payments"):
    order_id: Mapped[str] = field(references=Order, check=True)
    amount: Mapped[int] = field(default=0)
    by_order = Index("order_id")


class Coupon(Model, table="coupons", primary_key="id"):
    id: Mapped[str]
    order_id: Mapped[str | None] = field(references=Order, default=None, none="null")
    by_coupon_id = Index("id")
    by_order = Index("order_id")


class Category(Model, table="categories"):
    """Known by its `_id`, and refers to itself."""

    name: Mapped[str]
    parent_id: Mapped[Id[Category] | None] = field(default=None)
    favourite_id: Mapped[Id[Category] | None] = field(default=None, check=True)
    others: Mapped[list[Id[Category]]] = field(factory=list)
    parent: Related[Category | None] = relationship("parent_id")
    favourite: Related[Category | None] = relationship("favourite_id")
    children: RelatedList[Category] = relationship("by_parent", on_delete="cascade")
    by_parent = Index("parent_id", "name")


class Room(Model, table="rooms", primary_key="id"):
    """What goes with it is counted, searched and unique."""

    id: Mapped[str]
    chairs: RelatedList[Chair] = relationship("by_room", on_delete="cascade")
    seats: RelatedList[Seat] = relationship("by_seat", on_delete="nullify")
    by_room_id = Index("id")


class Chair(Model, table="chairs"):
    room_id: Mapped[str] = field(references=Room)
    price: Mapped[int] = field(default=0)
    shape: Mapped[list[float]] = field(factory=lambda: [1.0, 0.0])
    room: Related[Room] = relationship("room_id")
    by_room = Index("room_id", "price")
    by_shape = VectorIndex("shape", dimensions=2)
    of_room = Counter("room_id")
    worth = Sum("price")


class Seat(Model, table="seats"):
    room_id: Mapped[str | None] = field(references=Room, default=None)
    number: Mapped[int]
    by_seat = Index("room_id", "number", unique=True)
    of_room = Counter("room_id")


class Person(Model, table="people", primary_key="id"):
    """One passport at most, and friends on both sides."""

    id: Mapped[str]
    passport: Related[Passport | None] = relationship("by_holder", on_delete="cascade")
    locker: Related[Locker | None] = relationship("by_user", on_delete="nullify")
    likes: RelatedList[Person] = relationship("by_one", through="Friendship", on_delete="cascade")
    liked_by: RelatedList[Person] = relationship("by_other", through="Friendship", on_delete="cascade")
    by_person_id = Index("id")


class Passport(Model, table="passports", primary_key="number"):
    number: Mapped[str]
    holder_id: Mapped[str] = field(references=Person, default=UNSET)
    holder: Related[Person] = relationship("holder_id")
    by_number = Index("number")
    by_holder = Index("holder_id", unique=True)


class Locker(Model, table="lockers"):
    number: Mapped[int]
    user_id: Mapped[Id[Person] | None] = field(default=None)
    user: Related[Person | None] = relationship("user_id")
    by_user = Index("user_id", unique=True)


class Friendship(Model, table="friendships"):
    one_id: Mapped[str] = field(references=Person)
    other_id: Mapped[str] = field(references=Person)
    by_one = Index("one_id")
    by_other = Index("other_id")


class Partner(Model, table="partners", primary_key="id"):
    """Of two kinds, which say otherwise what deleting them does."""

    id: Mapped[str]
    by_partner_id = Index("id")


class Buyer(Partner, discriminator="buyer"):
    notes: RelatedList[Note] = relationship("by_partner", on_delete="cascade")
    deals: RelatedList[Deal] = relationship("by_partner", on_delete="nullify")


class Supplier(Partner, discriminator="supplier"):
    notes: RelatedList[Note] = relationship("by_partner", on_delete="restrict")
    deals: RelatedList[Deal] = relationship("by_partner")
    calls: RelatedList[Call] = relationship("by_partner", on_delete="cascade")
    visits: RelatedList[Visit] = relationship("by_partner", on_delete="cascade")


class Note(Model, table="notes"):
    partner_id: Mapped[str] = field(references=Partner)
    by_partner = Index("partner_id")


class Deal(Model, table="deals"):
    partner_id: Mapped[str | None] = field(references=Partner, default=None)
    by_partner = Index("partner_id")


class Call(Deal, discriminator="call"):
    minutes: Mapped[int] = field(default=0)


class Visit(Deal, discriminator="visit"):
    pass


MODELS: tuple[type[Model], ...] = (
    *(Customer, Order, Line, Tag, OrderTag, Payment, Coupon, Category, Room, Chair, Seat),
    *(Person, Passport, Locker, Friendship, Partner, Note, Deal),
)
