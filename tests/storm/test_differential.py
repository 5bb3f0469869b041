"""Random sessions on every kind of deployment at once: all answer the same, refuse the same, and hold the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import attrs

from convexorm import ConvexORMError, Deployment, Model, Session, StaleDataError, connect
from convexorm.querying.query import Query
from convexorm.values import canonical
from tests.conftest import Host
from tests.models import Anything, Chunk, Message, Task
from tests.storm.conftest import Storm

STEPS = 12
VALUES: list[Any] = [
    *(None, True, False, 0.0, -0.0, 1.0, -1.5, 2.0**53, math.inf, "", "a", "a\0", "b", "é", "\U0001f600"),
    *(b"", b"\xff", [], [1.0, None], [[]], {}, {"x": 1.0}, {"x": {"y": "a"}}, '{"x": 2}'),
]
KEYS = [f"k{number}" for number in range(5)]
OWNERS = ["ada", "bob"]
VECTORS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.5, 0.0], [0.3, 0.3, 0.3], [1e-9, 0.0, 1e-9], [0.0, 0.0, 0.0]]

Step = Callable[[Session, Session], object]


@attrs.frozen
class Refused:
    """With what a step is refused."""

    error: type[ConvexORMError]
    table: str | None = None
    reason: str | None = None
    fields: tuple[str, ...] = ()


def shown(instance: Model | None) -> object:
    """What an instance holds, but for what each deployment makes up itself."""
    match instance:
        case Anything():
            values = [instance.key, instance.a, instance.b, instance.text]
            return [None if value is None else canonical(value) for value in values]
        case Task():
            return [instance.text, instance.owner_id, instance.done, instance.rank]
        case Chunk():
            return [instance.text, instance.kind, instance.embedding]
        case Message():
            return [instance.id, instance.text, instance.channel]
    return None


def query(chance: Random) -> Query[Any]:
    """A query over an index or with a scan, with bounds, filters, an order and a limit."""
    value, other = chance.choice(VALUES), chance.choice(VALUES)
    found: Query[Any] = chance.choice(
        [
            Anything.query().by_index("by_a", a=value),
            Anything.query().by_index("by_a", Anything.a >= value),
            Anything.query().by_index("by_a", Anything.a < value),
            Anything.query().by_index("by_a_and_b", a=value),
            Anything.query().by_index("by_a_and_b", Anything.b > other, a=value),
            Anything.query().where(Anything.key == chance.choice(KEYS)),
            Anything.query().full_scan(),
            Task.query().by_index("by_owner", owner_id=chance.choice(OWNERS)),
            Task.query().by_index("by_rank", Task.rank > 1.0, Task.rank <= 3.0),
        ]
    )
    if found.model is Anything:
        conditions = [
            Anything.b == other,
            Anything.b != other,
            Anything.a <= other,
            Anything.a.in_([value, other]),
            Anything.a["x"] == 1.0,
            ~(Anything.b == value) & (Anything.key > "k1") | (Anything.text == "t"),
        ]
    else:
        conditions = [Task.done == True, Task.rank != 2.0, Task.text.in_(["x", "y"])]  # noqa: E712
    if chance.random() < 0.5:
        found = found.where(chance.choice(conditions))
    if chance.random() < 0.5:
        found = found.order("desc")
    return found.limit(chance.randint(0, 4)) if chance.random() < 0.3 else found


def step(chance: Random) -> Step:
    """What to do in a session; the same for each deployment."""
    key, value, other = chance.choice(KEYS), chance.choice(VALUES), chance.choice(VALUES)
    asked, kind = query(chance), chance.choice(["p", "q"])
    vector, limit, number = chance.choice(VECTORS), chance.randint(1, 5), float(chance.randint(0, 4))
    owner, words = chance.choice(OWNERS), " ".join(chance.choices(["fig", "figs", "K0", "tart", "Ada's", "éé"], k=3))

    def get(session: Session, _: Session) -> object:
        return shown(session.get(Anything, key))

    def get_many(session: Session, _: Session) -> object:
        return [shown(one) for one in session.get_many(Anything, [key, "none", *KEYS])]

    def all(session: Session, _: Session) -> object:
        return [shown(one) for one in session.all(asked)]

    def pages(session: Session, _: Session) -> object:
        sizes, cursor = [], None
        while True:
            page = session.page(asked, limit, cursor)
            sizes.append([shown(one) for one in page.items])
            if not page.has_more:
                return sizes
            cursor = page.cursor

    def read(session: Session, _: Session) -> object:
        found, count = session.read(asked, asked.count())
        return [shown(one) for one in found], count, session.count(asked)

    def one(session: Session, _: Session) -> object:
        return shown(session.one_or_none(asked)), shown(session.first(asked))

    def search(session: Session, _: Session) -> object:
        where = Chunk.kind == kind if number > 1 else None
        hits = session.search(Chunk.by_embedding, vector, limit=256, where=where)
        return sorted((round(hit.score, 5), str(shown(hit.item))) for hit in hits)

    def search_text(session: Session, _: Session) -> object:
        where = Message.channel == kind if number > 1 else None
        found = session.search_text(Message.by_text, f"{words} {key[:1]}", where=where, limit=limit)
        return [shown(one) for one in found], len(session.search_text(Message.by_text_alone, words, limit=50))

    def say(session: Session, _: Session) -> object:
        session.upsert(Message(id=key, text=None if number == 3 else f"{words} {owner} {key}", channel=kind))
        session.upsert(Message(id=owner, text=words))
        session.commit()
        session.update(Message, key, {"text": words * 2} if number else {"channel": None})
        return session.commit()

    def unsay(session: Session, _: Session) -> object:
        session.delete_key(Message, key)
        session.commit()
        return session.delete_all(Message.query().full_scan().where(Message.channel == kind).limit(limit))

    def add(session: Session, _: Session) -> object:
        session.add(Anything(key=key, a=value, b=other))
        return session.commit()

    def add_many(session: Session, _: Session) -> object:
        session.add_all(Task(text="xyz"[at], owner_id=owner, rank=number + at, done=at == 1) for at in range(3))
        session.add(Chunk(text=key, kind=kind, embedding=vector if number else None))
        return session.commit()

    def upsert(session: Session, _: Session) -> object:
        session.upsert(Anything(key=key, b=value, text="t"))
        return session.commit()

    def change(session: Session, _: Session) -> object:
        for found in session.all(asked):
            if isinstance(found, Anything):
                found.b, found.text = value, None if number else "t"
            else:
                found.rank, found.done = number, True
        return session.commit()

    def rename(session: Session, _: Session) -> object:
        found = session.get(Anything, key)
        if found is not None:
            found.key = "k1"
        return session.commit()

    def update(session: Session, _: Session) -> object:
        session.update(Anything, key, {"a": value})
        return session.commit()

    def delete(session: Session, _: Session) -> object:
        found = session.get(Anything, key)
        if found is not None:
            session.delete(found)
        session.delete_key(Anything, "k4")
        return session.commit()

    def delete_range(session: Session, _: Session) -> object:
        session.delete_range(asked)
        return session.commit()

    def delete_all(session: Session, _: Session) -> object:
        return session.delete_all(asked)

    def conflict(session: Session, second: Session) -> object:
        """Two changes of one document: of the same field, or of two."""
        mine, theirs = session.get(Anything, key), second.get(Anything, key)
        if mine is None or theirs is None:
            return None
        mine.a = value
        if number > 1:
            theirs.a = other
        theirs.b = other
        second.commit()
        return session.commit()

    reads: list[Step] = [get, get_many, all, pages, read, one, search, search_text]
    writes: list[Step] = [
        *(add, add, add_many, upsert, change, rename, update, delete, delete_range, delete_all, conflict),
        *(say, say, unsay),
    ]
    return chance.choice(chance.choice([reads, writes]))


def done(step: Step, deployment: Deployment) -> object:
    """What a step answers, or with what it is refused."""
    try:
        with Session(deployment) as session, Session(deployment) as second:
            return step(session, second)
    except StaleDataError as error:
        return Refused(type(error), error.table, error.reason, tuple(sorted(error.fields)))
    except ConvexORMError as error:
        return Refused(type(error))


def held(deployment: Deployment) -> object:
    with Session(deployment) as session:
        return [
            [shown(one) for one in session.all(model.query().full_scan())] for model in (Anything, Task, Chunk, Message)
        ]


def test_differential(storm: Storm, models_host: Host, tmp_path: Path) -> None:
    histories = 10 * storm.scale
    refused = 0
    with ExitStack() as stack:
        places = [("memory:", None), (f"sqlite:///{tmp_path / 'same.db'}", None), (models_host.url, models_host.key)]
        deployments = [stack.enter_context(connect(url, key)) for url, key in places]
        for history in range(histories):
            seed, steps = storm.chance.random(), []
            chance = Random(seed)
            for number in range(STEPS):
                todo = step(chance)
                steps.append(todo.__name__)
                first, *others = [done(todo, deployment) for deployment in deployments]
                assert others == [first] * len(others), f"history {history}, seed {seed}: {steps}"
                refused += isinstance(first, Refused)
                if number % 4 == 3:
                    first, *others = map(held, deployments)
                    assert others == [first] * len(others), f"history {history}, seed {seed}: {steps}"
            for deployment in deployments:
                with Session(deployment) as session:
                    for model in (Anything, Task, Chunk, Message):
                        session.delete_all(model.query().full_scan())
    storm.report(histories=histories, steps=histories * STEPS, refused=refused)
