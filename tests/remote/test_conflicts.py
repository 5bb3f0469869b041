"""What sessions write of unrelated documents at once, on a host whose commits overlap, does not conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from convexorm import Deployment, Session, func
from tests.conftest import ROOT, Host, serve_host
from tests.mastra.support import at_once
from tests.models import Note, Task

LATENCY = 40
"""Milliseconds from the run of a mutation to its commit, in which the other one runs."""


@pytest.fixture(scope="module")
def overlapping_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "tests" / "functions", "--latency", str(LATENCY))


class Things:
    """Notes and tasks of one name."""

    def __init__(self, host: Host, name: str) -> None:
        self.name = name
        self.deployment: Deployment = host.connect()
        self.mine = Task.query().by_index("by_owner", owner_id=name)
        with self.session() as session:
            session.add_all([Task(text=f"{number}", owner_id=name) for number in range(3)])
            session.add_all([Note(id=f"{name}-{number}", title=name) for number in range(3)])
            session.commit()

    def session(self) -> Session:
        return Session(self.deployment)

    @property
    def note(self) -> str:
        return f"{self.name}-0"

    def commit(self, ask: Callable[[Session], object]) -> None:
        with self.session() as session:
            ask(session)
            session.commit()


def _change(session: Session, name: str) -> None:
    session.get_one(Note, f"{name}-1").body = "changed"


def _delete(session: Session, name: str) -> None:
    session.delete(session.get_one(Note, f"{name}-2"))


OPERATIONS: dict[str, Callable[[Things], Any]] = {
    "add": lambda of: of.commit(lambda session: session.add(Task(text="new", owner_id=of.name))),
    "add by key": lambda of: of.commit(lambda session: session.add(Note(id=f"{of.name}-new"))),
    "change": lambda of: of.commit(lambda session: _change(session, of.name)),
    "delete": lambda of: of.commit(lambda session: _delete(session, of.name)),
    "update": lambda of: of.commit(lambda session: session.update(Note, of.note, {"body": "told"})),
    "append": lambda of: of.commit(lambda session: session.update(Note, of.note, {"tags": func.append(Note.tags, "x")})),
    "upsert": lambda of: of.commit(lambda session: session.upsert(Note(id=of.note, title=of.name))),
    "delete by key": lambda of: of.commit(lambda session: session.delete_key(Note, of.note)),
    "delete a range": lambda of: of.commit(lambda session: session.delete_range(of.mine)),
    "bulk upsert": lambda of: of.session().bulk_upsert(Note, [{"id": f"{of.name}-{number}"} for number in range(9)]),
    "update all": lambda of: of.session().update_all(of.mine, {Task.done: True}),
    "delete all": lambda of: of.session().delete_all(of.mine),
    "transact": lambda of: of.session().transact(lambda session: _change(session, of.name)),
    "get or create": lambda of: of.session().get_or_create(Note, id=f"{of.name}-other", defaults={"title": of.name}),
    "schedule": lambda of: of.commit(lambda session: session.schedule("orm:sweep", {}, delay=timedelta(hours=1))),
    "upload": lambda of: of.deployment.files.upload(of.name.encode()),
}


def test_writers_of_unrelated_documents_do_not_conflict(overlapping_host: Host, unique: str) -> None:
    """All kinds at once, each twice, so that every pair of kinds overlaps."""
    things = at_once(2 * len(OPERATIONS), lambda number: Things(overlapping_host, f"{unique}{number}"))
    overlapping_host.reset()
    at_once(len(things), lambda number: list(OPERATIONS.values())[number // 2](things[number]))
    counted: Any = overlapping_host.metrics()
    assert counted["conflicts"] == {}
    for each in things:
        each.deployment.close()


def test_writers_of_one_document_do_conflict_and_are_all_applied(overlapping_host: Host, unique: str) -> None:
    things = Things(overlapping_host, unique)
    overlapping_host.reset()

    def append(number: int) -> None:
        tags = func.append(Note.tags, f"{number}")
        things.commit(lambda session: session.update(Note, things.note, {"tags": tags}))

    at_once(4, append)
    counted: Any = overlapping_host.metrics()
    assert set(counted["conflicts"]) == {"notes"}
    with things.session() as session:
        assert sorted(session.get_one(Note, things.note).tags) == ["0", "1", "2", "3"]
    things.deployment.close()
