"""Objects that refer to each other are written as one commit, and both ends of a relation stay in step."""

from __future__ import annotations

import pytest

from convexorm import UNSET, Deployment, InvalidRequestError, NotLoadedError, ValidationError
from convexorm.requests import Commit, Delete, Insert, Key, Write
from tests.relations.conftest import Open, day, filled, save
from tests.relations.models import Category, Customer, Line, Order, OrderTag, Payment, Tag


async def test_an_object_brings_its_new_relatives_along(open_: Open) -> None:
    session = open_()
    ada = Customer(id="ada")
    order = Order(id="o", customer=ada, placed_at=day(0), lines=[Line(text="a"), Line(text="b")], tags=[Tag(id="t")])
    assert (order.customer_id, ada.orders) == ("ada", [order])
    await session.add(order)
    assert ada in session
    await session.commit()
    found = await open_().get_one(Order, "o", load=[Order.customer, Order.lines, Order.tags.load(Tag.orders)])
    assert found.customer.id == "ada"
    assert [line.text for line in found.lines] == ["a", "b"]
    assert [tag.id for tag in found.tags] == ["t"]
    assert found.tags[0].orders == [found]


async def test_what_is_put_into_a_list_refers_to_its_owner(open_: Open) -> None:
    await filled(open_)
    session = open_()
    ada = await session.get_one(Customer, "c0", load=[Customer.orders])
    new = Order(id="new", placed_at=day(9))  # its reference is set by its relation
    ada.orders.append(new)
    assert (new.customer_id, new.customer) == ("c0", ada)
    assert new in session
    await session.commit()
    found = await open_().get_one(Customer, "c0", load=[Customer.orders])
    assert [order.id for order in found.orders] == ["o0", "o3", "o6", "o7", "new"]


@pytest.mark.parametrize("place", [-1, 0, 1, 2, 3], ids=["none", "a delete", "itself", "what comes later", "past the end"])
async def test_a_reference_within_a_commit_leads_to_an_insert_before_it(deployment: Deployment, place: int) -> None:
    table = Category.__mapper__.table
    writes: list[Write] = [
        Delete(Tag.__mapper__.table, Key("by_tag_id", ("gone",)), missing="skip"),
        Insert(table, {"name": "child", "others": []}, refs={"parent_id": place}),
        Insert(table, {"name": "parent", "others": []}),
    ]
    with pytest.raises(ValidationError, match="refers to a write that inserts nothing before it") as refused:
        await deployment.asynchronous.commit(Commit.new(writes))
    assert refused.value.field == "parent_id"


async def test_ids_are_given_within_a_commit(open_: Open) -> None:
    session = open_()
    root = Category(name="root")
    leaf = Category(name="leaf", parent=Category(name="branch", parent=root))
    root.favourite = root.children[0]  # which is written first, although it is known by its parent alone
    root.favourite = None
    assert leaf.parent_id is UNSET
    await session.add(leaf)
    await session.commit()
    branch = leaf.parent
    assert branch is not None
    assert (leaf.parent_id, branch.parent_id) == (branch.convex_id, root.convex_id)
    found = await open_().get_one(Category, leaf.convex_id, load=[Category.parent.load(Category.parent)])
    assert found.parent is not None
    assert found.parent.parent is not None
    assert found.parent.parent.name == "root"


async def test_a_stored_document_may_refer_to_a_new_one(open_: Open) -> None:
    session = open_()
    stored = Category(name="stored")
    await save(session, stored)
    stored.parent = Category(name="new")
    assert session.dirty == [stored]
    await session.commit()
    assert stored.parent is not None
    assert stored.parent_id == stored.parent.convex_id
    assert session.dirty == []
    found = await open_().get_one(Category, stored.convex_id, load=[Category.parent])
    assert found.parent is not None
    assert found.parent.name == "new"


async def test_a_circle_of_new_objects_is_refused_by_name(open_: Open) -> None:
    session = open_()
    one, two = Category(name="one"), Category(name="two")
    one.parent, two.favourite = two, one
    await session.add(one)
    with pytest.raises(InvalidRequestError, match=r"circle.*Category\.parent_id -> Category\.favourite_id") as caught:
        await session.commit()
    assert "one" not in str(caught.value).split("circle")[0]
    two.favourite = None
    await session.commit()
    two.favourite = one
    await session.commit()
    found = await open_().get_one(Category, two.convex_id, load=[Category.favourite.load(Category.parent)])
    assert found.favourite is not None
    assert found.favourite.parent is found


@pytest.mark.parametrize("leaves", ["expunge", "delete"])
async def test_a_reference_to_what_is_not_to_be_stored_is_refused(open_: Open, leaves: str) -> None:
    await filled(open_)
    session = open_()
    order, stored = Order(id="o", customer=Customer(id="new"), placed_at=day(0)), await session.get_one(Order, "o1")
    await session.add(order)
    stored.customer = order.customer
    await getattr(session, leaves)(order.customer)
    with pytest.raises(InvalidRequestError, match=r"Order\.customer_id refers to a new Customer that is not"):
        await session.commit()
    order.customer_id, stored.customer_id = "c1", "c2"
    await session.commit()
    assert (await open_().get_one(Order, "o")).customer_id == "c1"


async def test_what_a_list_holds_and_the_session_does_not_is_refused(open_: Open) -> None:
    await filled(open_)
    session, other = open_(), open_()
    one = await session.get_one(Customer, "c1", load=[Customer.orders])
    theirs = await other.get_one(Order, "o0")
    new = Order(id="new", customer=one, placed_at=day(9))
    for item in (new, theirs):
        if item is theirs:
            one.orders.append(theirs)
        assert one.orders[-1] is item
        with pytest.raises(InvalidRequestError, match=r"Customer\.orders holds a Order that is not in the session"):
            await session.commit()
        if item is new:
            await session.add(new)
        else:
            one.orders.remove(theirs)
        await session.commit()
    assert [order.id for order in one.orders] == ["o1", "o4", "new"]


async def test_what_could_not_be_made_is_in_no_list(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one = await session.get_one(Customer, "c1", load=[Customer.orders.load(Order.tags.load(Tag.orders))])
    order, (late, gift) = one.orders[0], one.orders[0].tags
    with pytest.raises(ValidationError):
        Order(id="x", placed_at=day(0), customer=one, tags=[late, order])  # type: ignore[list-item]
    with pytest.raises(ValidationError):
        Order(id="y", placed_at=day(0), lines=[Line(), gift], customer=one)  # type: ignore[list-item]
    assert [one.id for one in one.orders] == ["o1", "o4"]
    assert {one.id for one in late.orders} == {f"o{n}" for n in range(8)}.intersection(one.id for one in gift.orders)
    assert session.new == []
    await session.commit()
    assert await open_().count(Order.query().full_scan()) == 8


async def test_what_is_deleted_with_the_commit_is_no_target_of_it(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one = await session.get_one(Customer, "c1", load=[Customer.orders])
    new = Order(id="new", placed_at=day(9))
    one.orders.append(new)
    await session.delete(one)
    with pytest.raises(InvalidRequestError, match=r"Order\.customer_id refers to a Customer that the same commit deletes"):
        await session.commit()
    new.customer = await session.get_one(Customer, "c2")
    await session.commit()
    assert (await open_().get_one(Order, "new")).customer_id == "c2"


async def test_a_key_that_is_changed_takes_along_what_the_session_holds(open_: Open) -> None:
    await filled(open_)
    session = open_()
    order = await session.get_one(Order, "o1", load=[Order.tags])
    one = await session.get_one(Customer, "c1", load=[Customer.orders])
    one.id, order.id = "renamed", "other"
    await session.commit()
    assert (order.customer_id, order.customer, [each.id for each in one.orders]) == ("renamed", one, ["other", "o4"])
    found = await open_().get_one(Customer, "renamed", load=[Customer.orders.load(Order.tags)])
    assert [each.id for each in found.orders] == ["other", "o4"]
    assert [[tag.id for tag in each.tags] for each in found.orders] == [["late", "gift"]] * 2


async def test_a_list_that_is_not_whole_is_not_set(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one = await session.get_one(Customer, "c1", load=[Customer.orders.limit(1)])
    with pytest.raises(InvalidRequestError, match=r"Customer\.orders holds some of its documents only"):
        one.orders = []
    await session.load(one, Customer.orders)
    one.orders = list(one.orders)
    assert session.dirty == []


async def test_an_instance_is_in_a_list_once(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one = await session.get_one(Customer, "c1", load=[Customer.orders])
    first, second = one.orders
    with pytest.raises(ValueError, match=r"Customer\.orders holds this instance at another place"):
        one.orders[0] = second
    assert session.dirty == []
    one.orders[:] = [second, first, second]
    assert one.orders == [second, first]
    one.orders[0] = second
    one.orders.append(first)
    assert (one.orders, session.dirty) == ([second, first], [])


async def test_a_refreshed_owner_has_what_was_put_into_its_lists(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one, order = await session.get_one(Customer, "c1", load=[Customer.orders]), await session.get_one(Order, "o0")
    tags = await session.get_one(Order, "o1", load=[Order.tags])
    one.orders.append(new := Order(id="new", placed_at=day(9)))
    order.customer = one
    tags.tags.pop()
    tags.tags.append(tag := Tag(id="new"))
    for refreshed in (one, tags):
        await session.refresh(refreshed)
        await session.expire(refreshed)
    assert ([each.id for each in one.orders], new.customer) == (["o1", "o4", "new", "o0"], one)
    assert ([each.id for each in tags.tags], tag.orders) == (["late", "new"], [tags])
    await session.rollback()
    assert ([each.id for each in one.orders], len(tags.tags)) == (["o1", "o4"], 2)


async def test_what_is_attached_brings_what_was_loaded_beside_it(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one = await session.get_one(Customer, "c1", load=[Customer.orders.load(Order.tags)])
    await session.expunge_all()
    one.orders[0].total = 77
    one.orders.append(Order(id="new", placed_at=day(9)))
    session = open_()
    held = await session.get_one(Order, "o4")
    session.attach(one)
    assert one in session
    assert (one.orders[1] is held, [order in session for order in one.orders]) == (True, [True] * 3)
    assert one.orders[0].tags[0] in session
    await session.commit()
    found = await open_().get_one(Customer, "c1", load=[Customer.orders])
    assert [(order.id, order.total) for order in found.orders] == [("o1", 77), ("o4", 40), ("new", 0)]


async def test_a_rollback_leaves_no_reference_to_what_was_new(open_: Open) -> None:
    await filled(open_)
    await save(open_(), Tag(id="of none", owner_id="new"))
    session = open_()
    tag = await session.get_one(Tag, "of none", load=[Tag.owner])
    new = Customer(id="new")
    await session.add(new)
    assert tag.owner is new
    await session.rollback()
    with pytest.raises(NotLoadedError):
        _ = tag.owner
    tag.owner_id = None
    await session.commit()


async def test_a_chain_may_be_long(open_: Open) -> None:
    session = open_()
    last = first = Category(name="0")
    for number in range(1, 1_500):
        last = Category(name=f"{number}", parent=last)
    await session.add(last)
    await session.commit()
    assert await session.count(Category.query().full_scan()) == 1_500
    await session.delete_key(Category, first.convex_id)
    await session.commit()
    assert await session.count(Category.query().full_scan()) == 0


async def test_a_reference_that_nothing_sets_is_refused(open_: Open) -> None:
    session = open_()
    order = Order(id="o", placed_at=day(0))
    await session.add(order)
    with pytest.raises(ValidationError, match=r"orders\.customer_id: required, and not set") as caught:
        await session.commit()
    assert (caught.value.table, caught.value.field) == ("orders", "customer_id")
    order.customer = Customer(id="c")
    await session.commit()
    assert await open_().get(Customer, "c") is not None


async def test_both_ends_stay_in_step(open_: Open) -> None:
    await filled(open_)
    session = open_()
    ada, bob = await session.get_many(Customer, ["c0", "c1"], load=[Customer.orders])
    assert ada is not None
    assert bob is not None
    order = ada.orders[0]
    order.customer = bob
    assert (order.customer_id, order in ada.orders, bob.orders[-1] is order) == ("c1", False, True)
    ada.orders.append(order)
    assert (order.customer_id, order.customer, order in bob.orders) == ("c0", ada, False)
    bob.orders.append(order)
    await session.commit()
    assert (await open_().get_one(Order, "o0")).customer_id == "c1"
    new = Order(id="new", customer_id="c1", placed_at=day(20))
    await session.add(new)
    assert bob.orders[-1] is new  # its customer is in the session, by its key
    assert new.customer is bob
    await session.delete(new)
    await session.commit()
    await session.delete(bob.orders[0])
    await session.commit()
    assert [one.id for one in bob.orders] == ["o4", "o0"]


async def test_a_rollback_takes_lists_and_references_back(open_: Open) -> None:
    await filled(open_)
    session = open_()
    ada, bob = await session.get_many(Customer, ["c0", "c1"], load=[Customer.orders])
    assert ada is not None
    assert bob is not None
    order = ada.orders[0]
    order.customer = bob
    ada.orders.append(Order(id="new", placed_at=day(1)))
    await session.rollback()
    assert [one.id for one in ada.orders] == ["o0", "o3", "o6", "o7"]
    assert [one.id for one in bob.orders] == ["o1", "o4"]
    assert (order.customer_id, order.customer) == ("c0", ada)
    await session.commit()
    assert await open_().get(Order, "new") is None


async def test_what_is_taken_out_of_a_list_refers_no_longer(open_: Open) -> None:
    await filled(open_)
    session = open_()
    root = Category(name="root", children=[Category(name="a"), Category(name="b")])
    await save(session, root)
    a = root.children.pop(0)
    assert a.parent_id is None
    await session.commit()
    found = await open_().get_one(Category, root.convex_id, load=[Category.children])
    assert [child.name for child in found.children] == ["b"]
    ada = await session.get_one(Customer, "c0", load=[Customer.orders])
    order = ada.orders[0]
    ada.orders.remove(order)  # which has to belong to somebody
    with pytest.raises(ValidationError, match="customer_id: required, and not set"):
        await session.commit()
    order.customer = await session.get_one(Customer, "c1")
    await session.commit()
    assert (await open_().get_one(Order, order.id)).customer_id == "c1"


async def test_many_to_many(open_: Open) -> None:
    await filled(open_)
    session = open_()
    order = await session.get_one(Order, "o0", load=[Order.tags.load(Tag.orders)])
    late, gift = order.tags
    order.tags.remove(late)
    order.tags.append(Tag(id="new"))
    assert order not in late.orders
    assert order.tags[-1].orders == [order]
    await session.commit()
    assert order.tags == [gift, await session.get(Tag, "new")]
    found = await open_().get_one(Order, "o0", load=[Order.tags])
    assert {tag.id for tag in found.tags} == {"gift", "new"}
    late.orders.append(order)
    order.tags.remove(gift)
    order.tags.append(gift)  # taken out and put in again: as before
    await session.commit()
    rows = await open_().all(OrderTag.query().by_index("by_order", order_id="o0"))
    assert sorted(row.tag_id for row in rows) == ["gift", "late", "new"]
    late.orders.remove(order)
    await session.rollback()
    assert order in late.orders
    assert late in order.tags
    order.tags = [late]
    await session.commit()
    assert [row.tag_id for row in await open_().all(OrderTag.query().by_index("by_order", order_id="o0"))] == ["late"]


async def test_relations_take_instances_of_their_model(open_: Open) -> None:
    with pytest.raises(ValidationError, match=r"orders\.customer: expected Customer, got Tag"):
        Order(id="o", customer=Tag(id="t"), placed_at=day(0))  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"orders\.customer: expected Customer, got None"):
        Order(id="o", customer_id="c", placed_at=day(0)).customer = None  # type: ignore[assignment]
    with pytest.raises(ValidationError, match=r"customers\.orders: expected Order, got Tag"):
        Customer(id="c").orders.append(Tag(id="t"))  # type: ignore[arg-type]
    await save(open_(), Customer(id="c"))
    with pytest.raises(NotLoadedError, match=r"Customer\.orders is not loaded"):
        (await open_().get_one(Customer, "c")).orders = []


async def test_a_reference_may_be_left_out_until_a_relation_sets_it(open_: Open) -> None:
    session = open_()
    order = Order(id="o1", customer=Customer(id="ada"), placed_at=day(1))
    payment = Payment(amount=5)  # type: ignore[call-arg]  # its reference has no default
    assert payment.order_id is UNSET
    order.payments.append(payment)
    await save(session, order)
    assert payment.order_id == "o1"
    await session.add(Payment(amount=6))  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match=r"payments\.order_id: required, and not set; give it, or the relation"):
        await session.commit()
    await session.rollback()
    with pytest.raises(ValidationError, match=r"tags\.id: required, and not given"):
        Tag(owner_id=None)  # type: ignore[call-arg]
    await session.delete_all(Payment.query().full_scan())
