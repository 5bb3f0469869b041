"""Relations are loaded when they are asked for, in one call, and never behind one's back."""

from __future__ import annotations

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
    NoResultFound,
    NotLoadedError,
    Related,
    RelatedList,
    Session,
    connect,
    field,
    relationship,
)
from tests.conftest import Host
from tests.relations.conftest import Open, day, filled, save
from tests.relations.models import Category, Customer, Line, Order, OrderTag, Tag

CUSTOMERS = Customer.query().by_index("by_customer_id")
OF_C0 = Order.query().by_index("by_customer", customer_id="c0")


def ids(found: list[Order] | list[Tag]) -> list[str]:
    return [one.id for one in found]


async def test_a_query_loads_what_its_documents_refer_to(open_: Open) -> None:
    await filled(open_)
    orders = await open_().all(OF_C0.load(Order.customer, Order.tags.load(Tag.owner)))
    assert ids(orders) == ["o0", "o3", "o6", "o7"]
    assert {order.customer.id for order in orders} == {"c0"}
    assert len({id(order.customer) for order in orders}) == 1
    assert [ids(order.tags) for order in orders] == [["late", "gift"]] * 4
    late, gift = orders[0].tags
    assert late.owner is None
    assert gift.owner is not None
    assert gift.owner.id == "c1"


async def test_a_list_is_in_the_order_of_its_index_and_leads_back(open_: Open) -> None:
    await filled(open_)
    customers = await open_().all(CUSTOMERS.load(Customer.orders))
    assert [ids(customer.orders) for customer in customers] == [["o0", "o3", "o6", "o7"], ["o1", "o4"], ["o2", "o5"]]
    assert all(order.customer is customer for customer in customers for order in customer.orders)


async def test_a_list_is_of_what_is_asked_for(open_: Open) -> None:
    await filled(open_)
    last = Customer.orders.where(Order.placed_at >= day(1), Order.total != 60).order("desc").limit(2)
    customers = await open_().all(CUSTOMERS.load(last))
    assert [ids(customer.orders) for customer in customers] == [["o7", "o3"], ["o4", "o1"], ["o5", "o2"]]
    orders = await open_().all(OF_C0.limit(1).load(Order.tags.where(Tag.owner_id == "c1").limit(1)))
    assert ids(orders[0].tags) == ["gift"]
    orders = await open_().all(OF_C0.limit(1).load(Order.tags.order("desc").limit(1)))
    assert ids(orders[0].tags) == ["gift"]


async def test_a_limit_counts_what_is_there(open_: Open) -> None:
    await filled(open_)
    rows = [OrderTag(order_id="o1", tag_id=tag, rank=n) for n, tag in enumerate(("gone", "late", "late", "gift", "new"), 2)]
    await save(open_(), Tag(id="new"), *rows)
    session = open_()
    await session.delete_key(Tag, "gift")
    await session.commit()
    for limit, expected in [(1, ["late"]), (2, ["late", "new"]), (3, ["late", "new"]), (9, ["late", "new"])]:
        orders = await open_().all(Order.query().where(Order.customer_id == "c1").load(Order.tags.limit(limit)))
        assert [ids(order.tags) for order in orders] == [expected, ["late"]]
        path = Customer.orders.load(Order.tags.limit(limit).order("desc"))
        (customer,) = await open_().all(CUSTOMERS.where(Customer.id == "c1").load(path))
        assert ids(customer.orders[0].tags) == ["new", "late"][:limit]


async def test_a_reference_to_what_is_not_stored_yet_leads_to_it(open_: Open) -> None:
    await filled(open_)
    await save(open_(), Tag(id="of none", owner_id="new"))
    session = open_()
    order = await session.get_one(Order, "o0")
    tag = await session.get_one(Tag, "of none", load=[Tag.owner])
    assert tag.owner is None
    new, other = Customer(id="new"), Order(id="other", customer_id="new", placed_at=day(0))
    await session.add(new)
    order.customer_id = "new"
    await session.add(other)
    await session.load([order, other], Order.customer)
    assert order.customer is other.customer is tag.owner is new
    (loaded,) = await session.all(Tag.query().where(Tag.id == "of none").load(Tag.owner))
    assert loaded.owner is new
    await session.commit()
    assert order.customer is other.customer is tag.owner is new


async def test_rows_between_lead_to_what_is_not_stored_yet(open_: Open) -> None:
    await filled(open_)
    await save(open_(), OrderTag(order_id="o1", tag_id="new", rank=5))
    session = open_()
    order = await session.get_one(Order, "o1", load=[Order.tags])
    assert ids(order.tags) == ["late", "gift"]
    new = Tag(id="new")
    await session.add(new)
    await session.load(order, Order.tags)
    assert ids(order.tags) == ["late", "gift", "new"]
    await session.rollback()
    assert ids(order.tags) == ["late", "gift"]
    await session.add(new)
    await session.load(order, Order.tags)
    await session.commit()
    assert ids(order.tags) == ["late", "gift", "new"]


async def test_everything_that_reads_loads(open_: Open) -> None:
    await filled(open_)
    query = OF_C0.load(Order.customer)
    first = await open_().first(query)
    assert first is not None
    one = await open_().one(query.limit(1))
    page = await open_().page(query, 2)
    later = await open_().page(OF_C0.load(Order.tags), 2, page.cursor)  # what is loaded makes it no other query
    assert ids(later.items[0].tags) == ["late", "gift"]
    streamed = [order async for order in open_().stream(query)]
    both, count = await open_().read(query, query.count())
    got = await open_().get(Order, "o3", load=[Order.customer])
    assert got is not None
    many = await open_().get_many(Order, ["o3", "o0"], load=[Order.customer])
    for order in (first, one, *page.items, *streamed, *both, got, *many):
        assert order is not None
        assert order.customer.id == "c0"
    assert count == len(streamed) == 4


async def test_instances_are_loaded_afterwards(open_: Open) -> None:
    await filled(open_)
    session = open_()
    orders = await session.all(OF_C0)
    with pytest.raises(NotLoadedError, match=r"Order\.customer is not loaded.*\.load\(Order\.customer\)") as caught:
        orders[0].customer.id  # noqa: B018
    assert caught.value.relation == "Order.customer"
    with pytest.raises(NotLoadedError, match=r"Order\.tags"):
        orders[0].tags  # noqa: B018
    await session.load(orders, Order.customer.load(Customer.orders), Order.tags)
    assert orders[0].customer.orders == orders
    assert ids(orders[3].tags) == ["late", "gift"]
    again = await session.get(Order, "o0", load=[Order.lines])
    assert again is orders[0]
    assert again.lines == []
    new = Order(id="new", customer_id="c1", placed_at=day(1))
    await session.load(new, Order.customer)
    assert new.customer.id == "c1"


async def test_a_reference_that_leads_nowhere(open_: Open) -> None:
    await save(
        open_(), Order(id="o", customer_id="nobody", placed_at=day(0)), Tag(id="t", owner_id="nobody"), Tag(id="none")
    )
    order = await open_().get_one(Order, "o", load=[Order.customer])
    with pytest.raises(NoResultFound, match=r"Order\.customer: customer_id leads to no document of table 'customers'"):
        order.customer.id  # noqa: B018
    tags = await open_().get_many(Tag, ["t", "none"], load=[Tag.owner])
    assert [tag.owner for tag in tags if tag is not None] == [None, None]


async def test_ids_lead_to_documents_of_the_same_table(open_: Open) -> None:
    session = open_()
    root = Category(name="root")
    await save(session, root)
    await save(session, Category(name="b", parent_id=root.convex_id), Category(name="a", parent_id=root.convex_id))
    (found,) = await open_().all(
        Category.query().full_scan().where(Category.name == "root").load(Category.children.load(Category.parent))
    )
    assert [child.name for child in found.children] == ["a", "b"]
    assert all(child.parent is found for child in found.children)


async def test_a_tree_is_loaded_as_deep_as_a_call_may_say(open_: Open) -> None:
    leaf = node = Category(name="0")
    for level in range(1, 25):
        node = Category(name=f"{level}", children=[node])
    session = open_()
    await save(session, node)
    path = Category.children
    for _ in range(19):
        path = Category.children.load(path)
    found = await open_().get_one(Category, node.convex_id, load=[path])
    for _ in range(20):
        (found,) = found.children
    assert found.name == "4"
    up = Category.parent.load(Category.parent.load(Category.parent))
    assert (await open_().get_one(Category, leaf.convex_id, load=[up])).parent is not None
    with pytest.raises(LimitExceeded, match="levels of relations to load: at most 20, got 21"):
        Category.children.load(path)
    conditional = Category.children.where(~Category.others.contains("x"))
    for _ in range(19):
        conditional = Category.children.load(conditional)
    with pytest.raises(LimitExceeded, match="with those of conditions on it: at most 20, got 2"):
        await open_().get_one(Category, node.convex_id, load=[conditional])


async def test_what_a_session_has_changed_stays(open_: Open) -> None:
    await filled(open_)
    session = open_()
    order = await session.get_one(Order, "o0", load=[Order.customer])
    bob = await session.get_one(Customer, "c1")
    order.customer = bob
    (again,) = await session.all(OF_C0.limit(1).load(Order.customer))
    assert again is order
    assert again.customer is bob


async def test_an_instance_that_shows_an_older_document_leads_where_it_says(open_: Open) -> None:
    await filled(open_)
    session, other = open_(), open_()
    order = await session.get_one(Order, "o0")
    assert order.customer_id == "c0"
    (await other.get_one(Order, "o0")).customer_id = "c1"
    await other.commit()
    await session.get(Order, "o1")
    (found,) = await session.all(Order.query().where(Order.id == "o0").load(Order.customer))
    assert found is order
    assert (found.customer_id, found.customer.id) == ("c0", "c0")


@pytest.mark.parametrize("path", [Customer.orders, Order.query(), "customer", Order, Order.total])
async def test_what_is_no_relation_of_the_model_is_refused(open_: Open, path: object) -> None:
    for nothing in (Order.id, Order, "customer"):
        with pytest.raises(InvalidRequestError, match="load takes relations, got"):
            await open_().load([], nothing)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match=r"relation"):
        Order.query().load(path)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        await open_().load([Order(id="o", customer_id="c", placed_at=day(0))], path)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        await open_().get(Order, "o", load=[path])  # type: ignore[list-item]


async def test_loading_is_one_call_that_reads_each_document_once(shop_host: Host, on_host: Deployment) -> None:
    def read() -> tuple[int, int]:
        counts = shop_host.metrics()
        shop_host.reset()
        return counts["calls"], counts["documentsRead"]

    await filled(lambda: AsyncSession(on_host))
    read()
    async with AsyncSession(on_host) as session:
        orders = await session.all(OF_C0.load(Order.customer, Order.tags.load(Tag.owner)))
        assert read() == (1, 4 + 1 + 8 + 2 + 1)  # orders, their customer, rows between, tags, an owner
        await session.load(orders, Order.customer, Order.lines)
        assert read() == (1, 1)
    async with AsyncSession(on_host) as session:
        await session.all(CUSTOMERS.load(Customer.orders.order("desc").limit(3)))
        assert read() == (1, 3 + 3 + 2 + 2)


async def test_past_one_call_it_goes_on_in_further_ones(shop_host: Host, on_host: Deployment) -> None:
    many, each = 6, 500
    async with AsyncSession(on_host) as session:
        session.add_all([Customer(id=f"c{n}") for n in range(many)])
        session.add_all([Order(id=f"o{n}", customer_id=f"c{n}", placed_at=day(n)) for n in range(many)])
        await session.commit()
        for n in range(many):
            session.add_all([Line(order_id=f"o{n}", text="x" * 4_000) for _ in range(each)], returning=False)
            await session.commit()
    shop_host.reset()
    async with AsyncSession(on_host) as fresh:
        customers = await fresh.all(CUSTOMERS.load(Customer.orders.load(Order.lines.load(Line.order))))
        assert shop_host.metrics()["calls"] in (2, 3)
        assert [[len(order.lines) for order in one.orders] for one in customers] == [[each]] * many
        assert all(line.order is order for one in customers for order in one.orders for line in order.lines)


def test_models_may_be_named_before_they_are_there() -> None:
    class Author(Model, table="authors", primary_key="id"):
        id: Mapped[int]
        books: RelatedList[Book] = relationship("by_author")
        shelves: RelatedList[Shelf] = relationship(through="Place")
        by_author_id = Index("id")

    class Place(Model, table="places"):
        author_id: Mapped[int] = field(references="Author")
        shelf_id: Mapped[Id[Shelf]]
        by_author = Index("author_id")

    class Shelf(Model, table="shelves"):
        name: Mapped[str]

    class Book(Model, table="books"):
        author_id: Mapped[int] = field(references="Author", default=UNSET)
        author: Related[Author] = relationship("author_id")
        by_author = Index("author_id")

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Book(author=Author(id=7, shelves=[Shelf(name="low")])))
        session.commit()
        session.expunge_all()
        author = session.get_one(Author, 7, load=[Author.books.load(Book.author), Author.shelves])
        assert author.books[0].author is author
        assert [shelf.name for shelf in author.shelves] == ["low"]


def test_a_reference_to_none_needs_no_looking() -> None:
    tag = Tag(id="t")
    assert tag.owner is None
    tag.owner_id = "c"
    with pytest.raises(NotLoadedError):
        tag.owner  # noqa: B018
