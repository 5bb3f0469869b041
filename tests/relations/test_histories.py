"""Whatever is done to related documents, in whatever order: what is loaded of their relations is what is stored."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from convexorm import InvalidRequestError, Model, NotLoadedError, Session, StaleDataError, connect
from tests.relations.conftest import day
from tests.relations.models import Coupon, Customer, Order, OrderTag, Tag

KINDS: tuple[Any, ...] = (Customer, Order, Tag, Coupon)
LISTS: dict[Any, tuple[str, ...]] = {Customer: ("orders", "dearest"), Order: ("tags", "coupons"), Tag: ("orders",)}
ONES: dict[Any, tuple[str, ...]] = {Order: ("customer",), Tag: ("owner",)}


def loaded(one: Any, relation: str) -> Any:
    try:
        return getattr(one, relation)
    except NotLoadedError:
        return None


class History:
    """A session that holds all documents there are, and does with them what chance says."""

    def __init__(self, session: Session, stored: Callable[[], Session], seed: int) -> None:
        self.session, self.stored, self.chance = session, stored, random.Random(seed)
        self.kept: list[Any] = []
        self.number = 10
        self.see()
        self.steps: list[Callable[[], Any]] = [
            *(self.commit, self.commit, self.session.rollback),
            *(self.load, self.load, self.put, self.put, self.take, self.move, self.own),
            *(self.add, self.upsert, self.upsert_order, self.row, self.by_hand, self.update),
            lambda: self.delete(self.session.delete),
            lambda: self.delete(lambda one: self.session.delete_key(type(one), one.id)),
            lambda: self.delete(lambda one: self.session.delete_range(type(one).query().where(type(one).id == one.id))),
            lambda: self.delete(lambda one: self.session.delete_all(type(one).query().where(type(one).id == one.id))),
            lambda: self.delete(lambda one: one.convex_id and self.session.delete_tree(one)),
            lambda: self.stored_one(self.session.refresh),
            lambda: self.stored_one(self.session.expire),
        ]

    def see(self) -> None:
        for model in (*KINDS, OrderTag):
            self.kept += [one for one in self.session.all(model.query().full_scan()) if not self.keeps(one)]

    def keeps(self, one: Model) -> bool:
        return any(each is one for each in self.kept)

    def any(self, *models: Any) -> Any:
        found = [one for one in self.kept if one in self.session and isinstance(one, models)]
        return self.chance.choice(found) if found else None

    def stored_one(self, do: Callable[[Any], Any]) -> None:
        one = self.any(*KINDS, OrderTag)
        if one is not None and one.convex_id is not None:
            do(one)

    def keep(self, one: Any) -> Any:
        self.kept.append(one)
        return one

    # what is done

    def load(self) -> None:
        one = self.any(*LISTS)
        if one is not None and one.convex_id is not None:
            relation = self.chance.choice(LISTS[type(one)] + ONES.get(type(one), ()))
            self.session.load(one, getattr(type(one), relation))

    def put(self) -> None:
        owner = self.any(*LISTS)
        relation = "" if owner is None else self.chance.choice(LISTS[type(owner)])
        item = self.any({"orders": Order, "dearest": Order, "tags": Tag, "coupons": Coupon}.get(relation, Order))
        items = None if owner is None or item is None else loaded(owner, relation)
        if items is not None:
            items.append(item)

    def take(self) -> None:
        owner = self.any(Order, Tag)
        relation = "" if owner is None else self.chance.choice(("tags", "coupons") if type(owner) is Order else ("orders",))
        items = None if owner is None else loaded(owner, relation)
        if items:
            items.remove(self.chance.choice(items))

    def move(self) -> None:
        order, customer = self.any(Order), self.any(Customer)
        if order is not None and customer is not None:
            order.customer = customer

    def own(self) -> None:
        tag = self.any(Tag)
        if tag is not None:
            tag.owner = self.any(Customer) if self.chance.random() < 0.7 else None

    def add(self) -> None:
        self.number += 1
        customer, id_ = self.any(Customer), f"n{self.number}"
        kind = self.chance.choice(KINDS)
        if kind is not Order:
            self.session.add(self.keep(kind(id=id_)))
        elif customer is not None:
            given = {"customer": customer} if self.chance.random() < 0.5 else {"customer_id": customer.id}
            self.session.add(self.keep(Order(id=id_, placed_at=day(1), **given)))

    def stored_alone(self, *models: Any) -> Any:
        """A document about which nothing is pending."""
        one = self.any(*models)
        alone = one is not None and one.convex_id is not None and self.session.get(type(one), one.id) is one
        return one if alone else None

    def upsert(self) -> None:
        old = self.stored_alone(Customer, Tag)
        if old is not None:
            self.session.upsert(self.keep(type(old)(id=old.id)))

    def upsert_order(self) -> None:
        old, customer = self.stored_alone(Order), self.any(Customer)
        if old is not None and customer is not None:
            self.session.upsert(self.keep(Order(id=old.id, customer_id=customer.id, placed_at=day(2))))

    def row(self) -> None:
        order, tag = self.any(Order), self.any(Tag)
        rows = [one for one in self.kept if type(one) is OrderTag and one in self.session]
        if order is not None and tag is not None and not [one for one in rows if one.order_id == order.id]:
            self.session.add(self.keep(OrderTag(order_id=order.id, tag_id=tag.id)))

    def by_hand(self) -> None:
        order, customer = self.any(Order), self.any(Customer)
        if order is not None and customer is not None:
            order.customer_id = customer.id

    def update(self) -> None:
        coupon, order = self.any(Coupon), self.any(Order)
        if coupon is not None and order is not None:
            self.session.update(Coupon, coupon.id, {"order_id": order.id}, missing_ok=True)

    def delete(self, way: Callable[[Any], Any]) -> None:
        one = self.any(*KINDS)
        if one is not None:
            way(one)

    # what is looked at

    def commit(self) -> None:
        try:
            self.session.commit()
        except (StaleDataError, InvalidRequestError):  # what is referred to is deleted
            self.session.rollback()
        assert (self.session.new, self.session.dirty, self.session.deleted) == ([], [], [])
        self.see()
        with self.stored() as other:
            for one in [one for one in self.kept if one in self.session]:
                model, key = type(one), one.primary_key
                relations = (*LISTS.get(model, ()), *ONES.get(model, ()))
                same = other.get_one(model, key, load=[getattr(model, name) for name in relations])
                assert one.to_dict() == same.to_dict()
                assert self.session.get(model, key) is one
                for relation in LISTS.get(model, ()):
                    items = loaded(one, relation)
                    if items is not None:
                        assert sorted(each.id for each in items) == sorted(each.id for each in getattr(same, relation))
                        assert all(each in self.session for each in items)
        self.kept = [one for one in self.kept if one in self.session]


@pytest.mark.parametrize("seed", range(60))
def test_what_is_loaded_is_what_is_stored_whatever_is_done(seed: int) -> None:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all([Customer(id=f"c{n}") for n in range(3)])
            session.add_all([Tag(id=f"t{n}", owner_id=f"c{n}") for n in range(3)])
            session.add_all([Order(id=f"o{n}", customer_id=f"c{n % 3}", placed_at=day(n)) for n in range(4)])
            session.add_all([Coupon(id=f"k{n}", order_id=f"o{n}") for n in range(2)])
            session.add_all([OrderTag(order_id=f"o{n}", tag_id=f"t{n % 2}") for n in range(3)])
            session.commit()
        with Session(deployment) as session:
            history = History(session, lambda: Session(deployment), seed)
            for _ in range(80):
                try:
                    history.chance.choice(history.steps)()
                except StaleDataError:
                    session.rollback()
            history.commit()
