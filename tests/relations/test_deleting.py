"""What deleting a document does to those that refer to it, and references that have to lead somewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from convexorm import (
    UNSET,
    AsyncSession,
    Deployment,
    Id,
    Index,
    InvalidRequestError,
    LimitExceeded,
    Mapped,
    Model,
    Related,
    RelatedList,
    Session,
    StaleDataError,
    ValidationError,
    connect,
    field,
    func,
    relationship,
)
from tests.conftest import serve_models
from tests.relations.conftest import Open, day, filled, save
from tests.relations.models import (
    MODELS,
    Buyer,
    Call,
    Category,
    Coupon,
    Customer,
    Deal,
    Line,
    Note,
    Order,
    OrderTag,
    Partner,
    Payment,
    Supplier,
    Tag,
    Visit,
)


async def counts(session: AsyncSession, models: Sequence[type[Model]] = MODELS) -> list[int]:
    return list(await session.read(*(model.query().full_scan().count() for model in models)))


async def shop(open_: Open) -> None:
    await filled(open_)
    await save(
        open_(),
        *(Line(order_id=f"o{n}", text="x") for n in range(8) for _ in range(2)),
        Coupon(id="used", order_id="o0"),
        Coupon(id="other", order_id="o1"),
    )


WAYS = ["delete", "delete_key", "delete_range", "delete_all"]


async def delete(session: AsyncSession, way: str, customer: str) -> None:
    query = Customer.query().where(Customer.id == customer)
    if way == "delete":
        await session.delete(await session.get_one(Customer, customer))
    elif way == "delete_key":
        await session.delete_key(Customer, customer)
    elif way == "delete_range":
        await session.delete_range(query)
    else:
        assert await session.delete_all(query) == 1
    await session.commit()


@pytest.mark.parametrize("way", WAYS)
async def test_deleting_cascades_and_takes_references_out(open_: Open, way: str) -> None:
    await shop(open_)
    session = open_()
    order = await session.get_one(Order, "o0")
    coupon = await session.get_one(Coupon, "used")
    await delete(session, way, "c0")
    # four orders went with their lines and their rows of tags; tags stay
    assert await counts(open_(), (Customer, Order, Line, Tag, OrderTag)) == [2, 4, 8, 2, 8]
    assert await session.get(Order, "o0") is None
    assert order not in session
    fresh = await session.get_one(Coupon, "used")
    assert fresh is coupon
    await session.refresh(coupon)
    assert coupon.order_id is None
    assert (await open_().get_one(Coupon, "other")).order_id == "o1"


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_referred_to_may_be_kept(open_: Open, way: str) -> None:
    await shop(open_)
    await save(open_(), Payment(order_id="o3"))
    before = await counts(open_())
    session = open_()
    with pytest.raises(StaleDataError, match=r"Order\.payments") as caught:
        await delete(session, way, "c0")
    assert (caught.value.reason, caught.value.relation) == ("exists", "Order.payments")
    assert await counts(open_()) == before


HELD = [*WAYS, "delete_tree"]


async def delete_one(session: AsyncSession, way: str, one: Any) -> None:
    """Delete a document with a primary key in one of the ways."""
    model = type(one)
    if way == "delete_key":
        await session.delete_key(model, one.id)
    elif way in ("delete", "delete_tree"):
        await getattr(session, way)(one)
    else:
        await getattr(session, way)(model.query().where(model.id == one.id))
    await session.commit()


@pytest.mark.parametrize("way", HELD)
async def test_what_was_deleted_is_in_no_loaded_list(open_: Open, way: str) -> None:
    await shop(open_)
    session = open_()
    load = Customer.orders.load(Order.tags, Order.lines)
    one, two = await session.get_many(Customer, ["c0", "c1"], load=[load, Customer.dearest])
    assert one is not None
    assert two is not None
    late, gift = one.orders[0].tags
    orders = [*one.orders, *two.orders]
    await delete_one(session, way, late)
    assert [order.tags for order in orders] == [[gift]] * 6
    first, line = one.orders[0], one.orders[0].lines[0]
    await delete_one(session, way, first)
    assert [order.id for order in one.orders] == [order.id for order in one.dearest] == ["o3", "o6", "o7"]
    assert line not in session
    await delete_one(session, way, two)
    assert not [order for order in two.orders if order in session]
    two_left = await open_().all(Order.query().full_scan())
    assert {order.id for order in two_left} == {"o2", "o5", "o3", "o6", "o7"}
    await session.rollback()
    assert (one.orders[0].tags, len(one.orders)) == ([gift], 3)


@pytest.mark.parametrize("way", ["delete", "delete_key", "delete_range", "delete_all"])
async def test_what_rows_led_to_is_in_no_list_once_they_are_deleted(open_: Open, way: str) -> None:
    await shop(open_)
    session = open_()
    order = await session.get_one(Order, "o0", load=[Order.tags.load(Tag.orders)])
    late, gift = order.tags
    query = OrderTag.query().where(OrderTag.order_id == "o0", OrderTag.rank == 0)
    row = await session.one(query)
    if way == "delete":
        await session.delete(row)
    elif way == "delete_key":
        await session.delete_key(OrderTag, row.convex_id)
    else:
        await getattr(session, way)(query)
    await session.commit()
    assert (order.tags, order in late.orders, order in gift.orders) == ([gift], False, True)


@pytest.mark.parametrize("way", HELD)
async def test_what_lost_its_reference_shows_that(open_: Open, way: str) -> None:
    await shop(open_)
    session = open_()
    order = await session.get_one(Order, "o0", load=[Order.coupons])
    (coupon,) = order.coupons
    assert coupon.order_id == "o0"
    await delete_one(session, way, order)
    assert coupon.order_id is None
    assert session.dirty == []
    coupon.order_id = "o1"
    await session.commit()
    assert (await open_().get_one(Coupon, "used")).order_id == "o1"


async def test_new_rows_between_are_not_stored_with_what_is_deleted(open_: Open) -> None:
    await shop(open_)
    session = open_()
    order, other = await session.get_many(Order, ["o0", "o1"], load=[Order.tags])
    assert order is not None
    assert other is not None
    new, gift = Tag(id="new"), other.tags[1]
    order.tags.append(new)
    other.tags.append(new)
    await session.delete(order)
    assert new.orders == [other]
    await session.commit()
    found = await open_().get_one(Tag, "new", load=[Tag.orders])
    assert [order.id for order in found.orders] == ["o1"]
    assert await counts(open_(), (OrderTag,)) == [15]
    other.tags.remove(gift)
    other.tags.append(gift)
    await session.delete(gift)
    await session.commit()
    assert (other.tags[-1], gift in other.tags) == (new, False)


async def test_changes_of_what_others_delete_with_it_are_refused(open_: Open) -> None:
    await shop(open_)
    session = open_()
    order = await session.get_one(Order, "o0")
    order.total = 7
    await session.delete_all(Customer.query().where(Customer.id == "c0"))
    assert order in session
    with pytest.raises(StaleDataError) as refused:
        await session.commit()
    assert refused.value.reason == "missing"


@pytest.mark.parametrize("way", HELD)
async def test_each_class_of_a_table_has_its_own_rules(open_: Open, way: str) -> None:
    kinds: list[tuple[str, type[Partner]]] = [("b", Buyer), ("s", Supplier), ("p", Partner), ("t", Supplier)]
    await save(open_(), *(kind(id=id_) for id_, kind in kinds))
    for id_, _ in kinds:
        await save(open_(), Deal(partner_id=id_), Call(partner_id=id_), *([Note(partner_id=id_)] if id_ != "t" else []))
    for id_, left in [("b", [3, 2, 8, 2]), ("p", [2, 2, 8, 2]), ("t", [1, 2, 7, 2])]:
        session = open_()
        await delete_one(session, way, await session.get_one(Partner, id_))
        without = Deal.query().where(Deal.partner_id == None).count()  # noqa: E711
        assert [*await counts(open_(), (Partner, Note, Deal)), *await open_().read(without)] == left
    session = open_()
    with pytest.raises(StaleDataError, match=r"Supplier\.notes") as refused:
        await delete_one(session, way, await session.get_one(Partner, "s"))
    assert refused.value.relation == "Supplier.notes"


@pytest.mark.parametrize("way", HELD)
async def test_what_is_said_of_two_classes_of_one_table_reaches_both(open_: Open, way: str) -> None:
    await save(open_(), Supplier(id="s"), *(kind(partner_id="s") for kind in (Deal, Call, Visit)))
    session = open_()
    await delete_one(session, way, await session.get_one(Partner, "s"))
    assert [type(one) for one in await open_().all(Deal.query().full_scan())] == [Deal]


async def test_the_order_of_a_commit_does_not_matter(open_: Open) -> None:
    await shop(open_)
    payment = Payment(order_id="o3")
    await save(open_(), payment)
    session = open_()
    customer = await session.get_one(Customer, "c0", load=[Customer.orders.load(Order.payments)])
    await session.delete(customer)
    for order in customer.orders:
        await session.delete(order)
        for each in order.payments:
            await session.delete(each)
    await session.commit()
    assert await counts(open_(), (Customer, Order, Payment)) == [2, 4, 0]


async def test_a_tree_is_deleted_and_so_is_a_circle(open_: Open) -> None:
    session = open_()
    one, two = Category(name="one"), Category(name="two")
    await save(session, one, two)
    one.parent, two.parent = two, one
    await session.commit()
    await save(session, Category(name="leaf", parent_id=two.convex_id), Category(name="free"))
    await session.delete(one)
    await session.commit()
    assert [each.name for each in await open_().all(Category.query().full_scan())] == ["free"]


async def test_what_is_too_much_for_one_commit_is_refused(open_: Open) -> None:
    session = open_()
    await save(session, Customer(id="c"), *(Order(id=f"o{n}", customer_id="c", placed_at=day(n)) for n in range(2)))
    for n in range(2):
        await session.add_all([Line(order_id=f"o{n}") for _ in range(2_100)], returning=False)
        await session.commit()
    await session.delete_key(Customer, "c")
    with pytest.raises(LimitExceeded, match="deleted by ranges in one commit"):
        await session.commit()
    await session.rollback()
    assert await counts(open_(), (Customer, Order, Line)) == [1, 2, 4_200]
    assert await session.delete_all(Order.query().full_scan()) == 2  # in as many commits as it takes
    assert await counts(open_(), (Customer, Order, Line)) == [1, 0, 0]


async def test_a_tree_of_any_size_is_deleted(open_: Open) -> None:
    await shop(open_)
    session = open_()
    for _ in range(2):
        await session.add_all([Line(order_id="o0") for _ in range(2_500)], returning=False)
        await session.commit()
    customer = await session.get_one(Customer, "c0", load=[Customer.orders])
    seen: list[int] = []
    done = await session.delete_tree(customer, on_progress=lambda progress: seen.append(progress.done))
    # a customer, four orders, their lines and rows of tags
    assert done == 1 + 4 + 8 + 5_000 + 8
    assert seen == sorted(seen)
    assert seen[-1] == done
    assert customer not in session
    assert await counts(open_(), (Customer, Order, Line, Tag, OrderTag)) == [2, 4, 8, 2, 8]
    assert (await open_().get_one(Coupon, "used")).order_id is None


async def test_a_tree_that_may_not_be_deleted_stays(open_: Open) -> None:
    await shop(open_)
    payment = Payment(order_id="o6")
    await save(open_(), payment)
    session = open_()
    order = await session.get_one(Order, "o6")
    before = await counts(open_())
    with pytest.raises(StaleDataError, match=r"Order\.payments"):
        await session.delete_tree(order)
    assert await counts(open_()) == before
    await session.delete(await session.get_one(Payment, payment.convex_id))
    await session.commit()
    assert await session.delete_tree(order) == 1 + 2 + 2


async def test_a_tree_may_hang_together_in_circles(open_: Open) -> None:
    session = open_()
    one, two = Category(name="one"), Category(name="two")
    await save(session, one, two)
    one.parent, two.parent = two, one
    await session.commit()
    await save(session, *(Category(name=f"{n}", parent_id=two.convex_id) for n in range(150)))
    await session.delete_tree(one)
    assert await counts(open_(), (Category,)) == [0]


async def test_a_tree_may_be_deep(open_: Open) -> None:
    session = open_()
    last = root = Category(name="0")
    for number in range(1, 300):
        last = Category(name=f"{number}", parent=last)
    await save(session, last)
    assert await session.delete_tree(root) == 300


# -- references that lead somewhere --------------------------------------------------------------------------------


async def test_a_checked_reference_leads_somewhere(open_: Open) -> None:
    session = open_()
    payment = Payment(order_id="o")
    await session.add(payment)
    with pytest.raises(StaleDataError, match="what it refers to is not there: order_id") as caught:
        await session.commit()
    error = caught.value
    assert (error.reason, error.table, error.fields, error.instance) == ("missing", "payments", ("order_id",), payment)
    await session.add(Order(id="o", customer_id="nobody", placed_at=day(0)))  # behind it, in the same commit
    await session.commit()
    payment.order_id = "p"
    with pytest.raises(StaleDataError, match="order_id"):
        await session.commit()
    await session.rollback()
    payment.amount = 5
    await session.commit()
    await session.update(Payment, payment.convex_id, {"order_id": "p"})
    with pytest.raises(StaleDataError) as caught:
        await session.commit()
    assert (caught.value.reason, caught.value.fields) == ("missing", ("order_id",))
    await session.rollback()
    await session.delete(await session.get_one(Order, "o"))
    payment.order_id = "q"
    await session.add(Order(id="q", customer_id="nobody", placed_at=day(0)))
    await session.commit()


async def test_a_checked_id_leads_somewhere(open_: Open) -> None:
    session = open_()
    gone = Category(name="gone")
    await save(session, gone)
    await session.delete(gone)
    await session.commit()
    await session.add(Category(name="x", parent_id=gone.convex_id))  # which is not checked
    await session.commit()
    await session.add(Category(name="x", favourite_id=gone.convex_id))
    with pytest.raises(StaleDataError) as caught:
        await session.commit()
    assert (caught.value.reason, caught.value.fields) == ("missing", ("favourite_id",))


async def test_a_checked_reference_that_is_computed_leads_somewhere(open_: Open) -> None:
    session = open_()
    payment = Payment(order_id="o")
    await save(session, payment, Order(id="o", customer_id="nobody", placed_at=day(0)))
    for least, leads in (("p", True), ("n", False)):
        await session.update(Payment, payment.convex_id, {"order_id": func.least(Payment.order_id, least)})
        if leads:
            await session.commit()
            continue
        with pytest.raises(StaleDataError) as caught:
            await session.commit()
        assert (caught.value.reason, caught.value.fields) == ("missing", ("order_id",))
        await session.rollback()
    await session.refresh(payment)
    assert payment.order_id == "o"


async def test_ids_that_are_computed_are_of_their_table(open_: Open) -> None:
    session = open_()
    tag, category = Tag(id="t"), Category(name="there")
    await save(session, tag, category)
    for id_ in (tag.convex_id, "nonsense"):
        await session.update(Category, category.convex_id, {"others": func.append(Category.others, id_)})
        with pytest.raises(ValidationError, match=r"others.* id of table .categories."):
            await session.commit()
        await session.rollback()
    await session.update(Category, category.convex_id, {"others": func.append(Category.others, category.convex_id)})
    await session.commit()


@pytest.mark.parametrize("field", ["parent_id", "others"])
@pytest.mark.parametrize("given", ["nonsense", "another table's", "", "0" * 32])
async def test_ids_are_of_their_table(open_: Open, field: str, given: str) -> None:
    session = open_()
    tag = Tag(id="t")
    await save(session, tag, Category(name="there"))
    id_ = tag.convex_id if given == "another table's" else given
    for write in ("add", "update"):
        category = Category(name="x")
        await save(session, category)
        values: dict[str, Any] = {field: [id_] if field == "others" else id_}
        if write == "add":
            await session.add(Category(name="x", **values))
        else:
            await session.update(Category, category.convex_id, values)
        with pytest.raises(ValidationError, match=rf"{field}.* id of table .categories.") as caught:
            await session.commit()
        assert caught.value.table == "categories"
        await session.rollback()
    await save(session, Category(name="y", others=[category.convex_id or "", category.convex_id or ""]))


# -- what forbids it, and goes along -------------------------------------------------------------------------------


class House(Model, table="houses", primary_key="id"):
    id: Mapped[str]
    desks: RelatedList[Desk] = relationship("by_house", on_delete="cascade")
    drawers: RelatedList[Drawer] = relationship("by_owner", on_delete="restrict")
    lamps: RelatedList[Lamp] = relationship("by_house", on_delete="cascade")
    by_house_id = Index("id")


class Lamp(Model, table="lamps", primary_key="id"):
    id: Mapped[str]
    house_id: Mapped[str] = field(references=House)
    drawers: RelatedList[Drawer] = relationship("by_lamp", on_delete="restrict")
    by_lamp_id = Index("id")
    by_house = Index("house_id")


class Desk(Model, table="desks"):
    house_id: Mapped[str] = field(references=House)
    drawers: RelatedList[Drawer] = relationship("by_desk", on_delete="cascade")
    by_house = Index("house_id")


class Drawer(Model, table="drawers"):
    desk_id: Mapped[Id[Desk]] = field(default=UNSET)
    owner_id: Mapped[str] = field(references=House)
    lamp_id: Mapped[str | None] = field(references=Lamp, default=None)
    desk: Related[Desk] = relationship("desk_id")
    by_desk = Index("desk_id")
    by_owner = Index("owner_id")
    by_lamp = Index("lamp_id")


class Hand(Model, table="hands", primary_key="id"):
    id: Mapped[str]
    gloves: RelatedList[Glove] = relationship("by_hand", on_delete="nullify")
    by_hand_id = Index("id")


class Glove(Model, table="gloves"):
    hand_id: Mapped[str | None] = field(references=Hand, default=None, check=True)
    by_hand = Index("hand_id")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Deployment]]:
    folder = tmp_path_factory.mktemp("houses")
    with (
        serve_models(folder, House, Lamp, Desk, Drawer, Hand, Glove) as host,
        host.connect() as on_host,
        connect("memory:") as memory,
    ):
        yield {"memory": memory, "host": on_host}


@pytest.mark.parametrize("way", ["delete", "delete_key", "delete_range", "delete_all", "delete_tree"])
@pytest.mark.parametrize("kind", ["memory", "host"])
def test_what_goes_along_forbids_nothing(houses: dict[str, Deployment], kind: str, way: str) -> None:
    one = House.query().where(House.id == "one")
    with Session(houses[kind]) as session:

        def deletes() -> None:
            if way in ("delete", "delete_tree"):
                getattr(session, way)(session.get_one(House, "one"))
            elif way == "delete_key":
                session.delete_key(House, "one")
            else:
                getattr(session, way)(one)
            session.commit()

        def left() -> list[int]:
            return [session.count(model.query().full_scan()) for model in (House, Lamp, Desk, Drawer)]

        for model in (Drawer, Desk, Lamp, House):
            session.delete_all(model.query().full_scan())
        mine, theirs = Desk(house_id="one"), Desk(house_id="two")
        session.add_all([House(id="one"), House(id="two"), Lamp(id="lamp", house_id="one"), mine, theirs])
        session.add(Drawer(desk=mine, owner_id="one", lamp_id="lamp"))
        session.add(elsewhere := Drawer(desk=theirs, owner_id="two", lamp_id="lamp"))
        session.commit()
        with pytest.raises(StaleDataError) as refused:
            deletes()
        assert (refused.value.reason, refused.value.relation) == ("exists", "Lamp.drawers")
        session.rollback()
        assert left() == [2, 1, 2, 2]
        session.update(Drawer, elsewhere.convex_id, {"lamp_id": None})
        session.commit()
        deletes()
        assert left() == [1, 0, 1, 1]


# -- what the same commit makes lead nowhere -----------------------------------------------------------------------


async def append_tag(session: AsyncSession, order: Order) -> None:
    order.tags.append(await session.get_one(Tag, "fresh"))


async def append_line(session: AsyncSession, order: Order) -> None:
    order.lines.append(Line(text="new"))


async def append_coupon(session: AsyncSession, order: Order) -> None:
    order.coupons.append(await session.get_one(Coupon, "used"))


async def add_line(session: AsyncSession, order: Order) -> None:
    await session.add(Line(order=order, text="new"))


async def add_line_by_hand(session: AsyncSession, order: Order) -> None:
    await session.add(Line(order_id=order.id, text="new"))


async def delete_instance(session: AsyncSession, order: Order) -> None:
    await session.delete(order)


async def delete_key(session: AsyncSession, order: Order) -> None:
    await session.delete_key(Order, order.id)


async def delete_range(session: AsyncSession, order: Order) -> None:
    await session.delete_range(Order.query().by_index("by_order_id", id=order.id))


async def delete_owner(session: AsyncSession, order: Order) -> None:
    await session.delete_key(Customer, order.customer_id)


async def delete_range_of_owners(session: AsyncSession, order: Order) -> None:
    await session.delete_range(Customer.query().by_index("by_customer_id", id=order.customer_id))


async def delete_all(session: AsyncSession, order: Order) -> None:
    await session.delete_all(Order.query().by_index("by_order_id", id=order.id))


async def delete_tree(session: AsyncSession, order: Order) -> None:
    await session.delete_tree(order)


async def give_another_key(session: AsyncSession, order: Order) -> None:
    await session.update(Order, order.id, {"id": "renamed"})


async def led_nowhere(session: AsyncSession) -> list[str]:
    orders = {order.id for order in await session.all(Order.query().full_scan())}
    found: list[Any] = [await session.all(model.query().full_scan()) for model in (Line, OrderTag, Coupon)]
    return [type(one).__name__ for some in found for one in some if one.order_id not in (None, *orders)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "way", [delete_instance, delete_key, delete_range, delete_owner, delete_range_of_owners, delete_all, delete_tree]
)
@pytest.mark.parametrize("refer", [append_tag, append_coupon, add_line])
async def test_nothing_is_stored_that_leads_to_what_is_deleted(open_: Open, refer: Any, way: Any, *, first: bool) -> None:
    await save(
        open_(),
        *(Customer(id="c"), Order(id="o", customer_id="c", placed_at=day(1)), Tag(id="late"), Tag(id="fresh")),
        *(OrderTag(order_id="o", tag_id="late"), Coupon(id="used")),
    )
    session = open_()
    order = await session.get_one(Order, "o", load=[Order.tags, Order.lines, Order.coupons, Order.customer])
    _kept = await session.get_many(Tag, ["fresh"]), await session.get_many(Coupon, ["used"]), order.customer
    try:
        for do in (refer, way) if first else (way, refer):
            await do(session, order)
        before = await counts(open_())
        await session.commit()
    except (InvalidRequestError, StaleDataError):
        assert await counts(open_()) == before
        await session.rollback()
    assert await led_nowhere(open_()) == []


@pytest.mark.parametrize("refer", [append_tag, append_line, append_coupon, add_line, add_line_by_hand])
@pytest.mark.parametrize("way", [delete_instance, delete_key, give_another_key])
async def test_a_reference_to_what_the_same_commit_deletes_by_its_key_is_refused(refer: Any, way: Any) -> None:
    async with AsyncSession(connect("memory:")) as session:
        await save(session, Customer(id="c"), Order(id="o", customer_id="c", placed_at=day(1)), Tag(id="fresh"))
        await save(session, Coupon(id="used"))
        order = await session.get_one(Order, "o", load=[Order.tags, Order.lines, Order.coupons])
        await way(session, order)
        await refer(session, order)
        with pytest.raises(InvalidRequestError, match=r"\.order_id refers to a Order that the same commit (deletes|gives)"):
            await session.commit()
        await session.rollback()
        assert await session.get(Order, "o") is order


@pytest.mark.parametrize("way", ["instance", "key"])
async def test_a_reference_by_id_to_what_the_same_commit_deletes_is_refused(way: str) -> None:
    async with AsyncSession(connect("memory:")) as session:
        parent, child = Category(name="parent"), Category(name="child")
        await save(session, parent, child)
        child.parent = parent
        await (session.delete(parent) if way == "instance" else session.delete_key(Category, parent.convex_id))
        with pytest.raises(InvalidRequestError, match=r"parent_id refers to a Category that the same commit deletes"):
            await session.commit()


async def test_what_takes_the_place_of_what_is_deleted_may_be_referred_to(open_: Open) -> None:
    session = open_()
    await save(session, Customer(id="c"), Order(id="o", customer_id="c", placed_at=day(1)))
    await session.delete_key(Order, "o")
    await session.add(Order(id="o", customer_id="c", placed_at=day(2), lines=[Line(text="new")]))
    await session.commit()
    assert [line.order_id for line in await session.all(Line.query().full_scan())] == ["o"]


@pytest.mark.parametrize("way", [delete_range, delete_owner])
async def test_what_is_deleted_with_what_it_refers_to_forbids_nothing(open_: Open, way: Any) -> None:
    session = open_()
    await save(session, Customer(id="c"), Order(id="o", customer_id="c", placed_at=day(1)))
    order = await session.get_one(Order, "o", load=[Order.lines])
    order.lines.append(Line(text="new"))
    await way(session, order)
    await session.commit()
    assert sum(await counts(open_(), (Order, Line))) == 0


async def test_a_reference_that_has_to_lead_somewhere_forbids_nothing_where_it_is_deleted_or_taken_out(
    open_: Open,
) -> None:
    session = open_()
    root = Category(name="root")
    await save(session, root)
    await session.add(Category(name="child", parent=root, favourite=root))
    await session.delete_range(Category.query().full_scan().where(Category.name == "root"))
    await session.commit()
    assert await counts(open_(), (Category,)) == [0]


@pytest.mark.parametrize("kind", ["memory", "host"])
def test_a_checked_reference_that_a_relation_takes_out_need_not_lead_anywhere(
    houses: dict[str, Deployment], kind: str
) -> None:
    with Session(houses[kind]) as session:
        session.add(Hand(id="left"))
        session.commit()
        session.add(Glove(hand_id="left"))
        session.delete_range(Hand.query().full_scan())
        session.commit()
        assert session.one(Glove.query().full_scan()).hand_id is None
