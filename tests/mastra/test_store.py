"""The stores: how they are opened and closed, what they refuse, and tables under other names."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convexorm import AuthError, ConvexORMError, Deployment, DeploymentError, Session, connect
from convexorm.errors import InvalidRequestError
from mastra_convex import (
    AsyncConvexNativeVector,
    AsyncConvexServerCache,
    AsyncConvexStore,
    AsyncConvexVector,
    AsyncMemory,
    ConvexNativeVector,
    ConvexServerCache,
    ConvexStore,
    ConvexVector,
    Memory,
    Thread,
    UnknownStore,
)
from tests.conftest import Host
from tests.mastra.support import ids, messages, thread

STORES = [ConvexStore, AsyncConvexStore]
URL = "https://happy-otter-123.convex.cloud"
SECRET = "prod:happy-otter-123|c2VjcmV0"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CONVEX_") and "TEST" not in name]:
        monkeypatch.delenv(name, raising=False)


# -- opening and closing -------------------------------------------------------------------------------------------


def test_a_store_is_opened_by_url(tmp_path: Path, unique: str) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with ConvexStore(id="local", deployment_url=url) as store:
        store.init()
        store.memory.save_thread(thread=thread(unique, "r"))
    with pytest.raises(DeploymentError):
        store.memory.get_thread_by_id(thread_id=unique)

    async def read() -> Thread | None:
        async with AsyncConvexStore(id="local", deployment_url=url) as store:
            await store.init()
            return await store.memory.get_thread_by_id(thread_id=unique)

    assert asyncio.run(read()) is not None


def test_a_deployment_that_was_given_stays_open(deployment: Deployment, unique: str) -> None:
    with ConvexStore(id="x", deployment=deployment) as store:
        store.memory.save_thread(thread=thread(unique, "r"))
    with Session(deployment) as session:
        assert session.get(Thread, unique) is not None


def test_both_faces_share_one_deployment(deployment: Deployment, unique: str) -> None:
    ConvexStore(id="x", deployment=deployment).memory.save_thread(thread=thread(unique, "r"))

    async def read() -> Thread | None:
        found = await AsyncConvexStore(id="y", deployment=deployment).memory.get_thread_by_id(thread_id=unique)
        await deployment.aclose()
        return found

    assert asyncio.run(read()) is not None


@pytest.mark.parametrize("store", STORES)
def test_url_and_key_come_from_the_environment(
    shared_host: Host, monkeypatch: pytest.MonkeyPatch, unique: str, store: type[Any]
) -> None:
    monkeypatch.setenv("CONVEX_URL", shared_host.url)
    monkeypatch.setenv("CONVEX_ADMIN_KEY", shared_host.key)
    with store(id="env").deployment as deployment, Session(deployment) as session:
        session.add(Thread(**thread(unique, "r")))
        session.commit()
    with shared_host.connect() as deployment, Session(deployment) as session:
        assert session.get(Thread, unique) is not None


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, DeploymentError),
        ({"deployment_url": URL}, AuthError),
        ({"deployment_url": URL, "admin_auth_token": ""}, AuthError),
        ({"deployment_url": URL, "admin_auth_token": "a key\n"}, AuthError),
        ({"deployment_url": "ftp://x", "admin_auth_token": SECRET}, DeploymentError),
        ({"deployment_url": "", "admin_auth_token": SECRET}, DeploymentError),
        ({"deployment": "memory:", "deployment_url": URL}, InvalidRequestError),
        ({"deployment": "memory:", "admin_auth_token": SECRET}, InvalidRequestError),
        ({"deployment": URL}, InvalidRequestError),
        ({"deployment": "memory:", "id": " "}, InvalidRequestError),
        ({"deployment": "memory:", "id": None}, InvalidRequestError),
        ({"deployment": "memory:", "tables": {"mastra_thread": "threads"}}, InvalidRequestError),
        ({"deployment": "memory:", "tables": {"mastra_threads": "1 thread"}}, ConvexORMError),
    ],
    ids=str,
)
def test_a_store_that_cannot_work_is_refused(store: type[Any], options: dict[str, Any], error: type[Exception]) -> None:
    with connect("memory:") as deployment:
        given = {**options, "deployment": deployment} if options.get("deployment") == "memory:" else options
        with pytest.raises(error) as caught:
            store(**{"id": "x", **given})
    assert isinstance(caught.value, ConvexORMError)
    assert SECRET not in str(caught.value)


OPENED: dict[str, tuple[Callable[..., Any], str]] = {
    **{store.__name__: (functools.partial(store, id="x"), "storage_function") for store in STORES},
    **{cache.__name__: (cache, "ttl_ms") for cache in (ConvexServerCache, AsyncConvexServerCache)},
    **{
        vectors.__name__: (functools.partial(vectors, id="x"), "max_bytes") for vectors in (ConvexVector, AsyncConvexVector)
    },
    **{
        vectors.__name__: (functools.partial(vectors, id="x", indexes={}), "indexes")
        for vectors in (ConvexNativeVector, AsyncConvexNativeVector)
    },
}
"""Everything that is opened over a connection, with an option of its own."""


@pytest.mark.parametrize("name", OPENED)
def test_an_option_that_does_not_exist_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, own = OPENED[name]
    monkeypatch.setenv("CONVEX_URL", "memory:")
    with pytest.raises(TypeError, match="unknown option 'deployment_ulr'; there are") as refused:
        opened(deployment_ulr=SECRET)
    told = str(refused.value)
    assert own in told
    assert "deployment_url" in told
    assert SECRET not in told


@pytest.mark.parametrize("store", STORES)
def test_a_store_does_not_show_its_key(store: type[Any]) -> None:
    opened = store(id="x", deployment_url=URL, admin_auth_token=SECRET)
    assert URL in repr(opened)
    for text in (repr(opened), repr(vars(opened)), repr(opened.memory), repr(opened.deployment)):
        assert SECRET not in text
    opened.deployment.close()


def test_the_wrong_key_is_refused_and_not_shown(shared_host: Host, unique: str) -> None:
    with ConvexStore(id="x", deployment_url=shared_host.url, admin_auth_token=SECRET) as store:
        with pytest.raises(AuthError) as caught:
            store.memory.save_thread(thread=thread(unique, "r"))
        assert SECRET not in str(caught.value)
    with shared_host.connect() as deployment, Session(deployment) as session:
        assert session.get(Thread, unique) is None


# -- domains -------------------------------------------------------------------------------------------------------


def test_domains_are_got_by_the_contracts_names() -> None:
    store = ConvexStore(id="x", deployment=connect("memory:"))
    assert store.get_store("memory") is store.memory
    assert store.stores["memory"] is store.memory
    with pytest.raises(UnknownStore) as caught:
        store.get_store("nothing")
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_GET_STORE_UNKNOWN_STORE"


def test_domains_are_got_by_the_contracts_names_async() -> None:
    store = AsyncConvexStore(id="x", deployment=connect("memory:"))
    assert asyncio.run(store.get_store("memory")) is store.memory
    with pytest.raises(UnknownStore):
        asyncio.run(store.get_store("nothing"))


def test_the_two_faces_have_the_same_methods_with_the_same_arguments() -> None:
    def public(face: type) -> dict[str, Callable[..., Any]]:
        return {name: value for name, value in inspect.getmembers(face, inspect.isfunction) if not name.startswith("_")}

    awaited, plain = public(AsyncMemory), public(Memory)
    assert set(awaited) == set(plain)
    for name, method in awaited.items():
        assert inspect.signature(method) == inspect.signature(plain[name])
        assert method.__doc__ == plain[name].__doc__
        kinds = {parameter.kind for parameter in list(inspect.signature(method).parameters.values())[1:]}
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


def test_the_settings_of_a_store_can_be_read() -> None:
    store = ConvexStore(id="x", name="mine", deployment=connect("memory:"), storage_function="a/b:c")
    assert (store.id, store.name, store.storage_function) == ("x", "mine", "a/b:c")
    assert ConvexStore(id="x", deployment=connect("memory:")).storage_function == "mastra/storage:handle"


# -- tables under other names --------------------------------------------------------------------------------------

NAMES = {"mastra_threads": "chats", "mastra_messages": "lines", "mastra_resources": "people"}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_tables_may_have_other_names(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    renamed = ConvexStore(id="x", deployment=deployment, tables=NAMES).memory
    plain = ConvexStore(id="y", deployment=deployment).memory
    renamed.save_thread(thread=thread("t", "r"))
    renamed.save_messages(messages=messages("m", 4, "t", "r"))
    renamed.update_resource(resource_id="r", working_memory="w")
    assert plain.get_thread_by_id(thread_id="t") is None
    assert plain.list_messages(thread_id="t").total == 0
    assert plain.get_resource_by_id(resource_id="r") is None
    assert renamed.get_resource_by_id(resource_id="r") is not None
    included = renamed.list_messages(thread_id="t", per_page=0, include=[{"id": "m2", "with_next_messages": 1}])
    assert ids(included.messages) == ["m2", "m3"]
    renamed.update_messages(messages=[{"id": "m1", "role": "assistant"}])
    clone = renamed.clone_thread(source_thread_id="t")
    renamed.update_thread_resource_id(thread_id="t", resource_id="s")
    assert (renamed.list_threads().total, renamed.list_messages_by_resource_id(resource_id="s").total) == (2, 4)
    renamed.delete_thread(thread_id=clone.thread.id)
    renamed.delete_messages(message_ids=["m0"])
    assert [one.role for one in renamed.list_messages(thread_id="t").messages] == ["assistant", "user", "user"]
    assert plain.list_threads().total == 0


def test_a_table_that_the_deployment_lacks_is_an_error_that_names_it(shared_host: Host, unique: str) -> None:
    with shared_host.connect() as deployment:
        memory = ConvexStore(id="x", deployment=deployment, tables={"mastra_threads": "no_such_table"}).memory
        with pytest.raises(DeploymentError, match="no_such_table"):
            memory.save_thread(thread=thread(unique, "r"))
