"""Copies of a commit that arrive late: what was withdrawn is never applied, what was applied is never lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import httpx2
import pytest

from convexorm import Deployment, InvalidRequestError, Session, StaleDataError
from convexorm.deployments.remote import RemotePort
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Key, Patch
from convexorm.values import dumps
from convexorm.wire import encode_commit
from tests.conftest import ADMIN_KEY, Host
from tests.models import Note
from tests.servers import Answer, serve

TABLE = Note.__mapper__.table


@pytest.fixture
def deployment(models_host: Host) -> Iterator[Deployment]:
    with models_host.connect() as deployment:
        yield deployment


@pytest.fixture
def port(deployment: Deployment) -> RemotePort:
    return cast("RemotePort", deployment.blocking)


def retitled(id: str, old: str, new: str) -> Commit:
    change = Patch(TABLE, Key("by_note_id", (id,)), {"title": new}, expect={"title": old})
    return Commit(uuid4().hex, [change])


def title(deployment: Deployment, id: str) -> str:
    with Session(deployment) as session:
        return session.get_one(Note, id).title


def test_a_refused_and_withdrawn_commit_is_not_applied_by_its_own_late_copy(
    models_host: Host, deployment: Deployment, port: RemotePort, unique: str
) -> None:
    with Session(deployment) as session:
        session.add(Note(id=unique, title="old"))
        session.commit()
    change = retitled(unique, "old", "new")
    body = dumps({"path": "orm:commit", "args": encode_commit(change), "format": "convex_encoded_json"})
    released = threading.Event()
    late: list[dict[str, Any]] = []

    def hold(call: dict[str, Any]) -> Answer:
        released.wait(30)
        headers = {"Authorization": f"Convex {ADMIN_KEY}"}
        answer = httpx2.post(f"{models_host.url}/api/mutation", content=dumps(call), headers=headers)
        late.append(answer.json())
        return Answer(answer.content)

    with serve(hold) as proxy:
        first = threading.Thread(target=lambda: httpx2.post(f"{proxy.url}/api/mutation", content=body, timeout=30))
        first.start()
        finish(port.commit(retitled(unique, "old", "other")))
        with pytest.raises(StaleDataError):
            finish(port.commit(change))
        assert finish(port.withdraw(change)) is None
        finish(port.commit(retitled(unique, "other", "old")))
        released.set()
        first.join()
    assert late[0]["errorData"]["code"] == "Withdrawn"
    assert title(deployment, unique) == "old"
    with pytest.raises(InvalidRequestError, match="withdrawn"):
        finish(port.commit(change))


def test_a_withdrawal_of_an_applied_commit_answers_what_it_did(
    deployment: Deployment, port: RemotePort, unique: str
) -> None:
    commit = Commit(uuid4().hex, [Insert(TABLE, {"id": unique, "title": "", "body": "", "tags": []}, returning=True)])
    applied = finish(port.commit(commit))
    assert finish(port.withdraw(commit)) == applied
    assert title(deployment, unique) == ""
